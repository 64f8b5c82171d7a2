// Package browser tries the worker's pages in a real Chromium: what they show when the broker
// or the replica is gone, whether text can be selected, at which widths they can be read, by
// keyboard and by the rules of axe-core. It is a module of its own, so that the program does
// not depend on a browser's protocol. `make browser` installs what it needs.
package browser
