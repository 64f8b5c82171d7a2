// Package forgetful is a file system that loses what was not synced when its power goes: the
// disk of a machine, as a process that can be killed.
//
//	writes, names ──▶ memory of the process       what open(2), write(2), rename(2) change
//	                        │ fsync, fdatasync, O_SYNC, O_DSYNC
//	                        ▼
//	                  platter (a directory)        what is there after a power cut
//
// SIGKILL of the process that called [Mount] is the power cut: its memory is gone, and the next
// [Mount] of the same platter shows what had been synced. A sync that the kill interrupts is
// half done, as on a real disk.
//
// The model is pessimistic. Nothing is ever written back by itself, where a kernel does so after
// half a minute or when memory is short. Syncing a file makes its bytes, its size, its own name
// and the names of the directories above it durable, as ext4, XFS and Btrfs do; renames and
// removals wait for a sync of their directory.
package forgetful
