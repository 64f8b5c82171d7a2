package browser_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"go.uber.org/goleak"
)

// limit bounds every wait; only a failing test waits that long.
const limit = time.Minute

var screenshots = flag.String("screenshots", "", "folder to write the pictures of the documentation to")

// chromium is the browser that all tests share; each opens a tab of its own.
var chromium context.Context

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	path, err := exec.LookPath("chromium")
	if err != nil {
		fmt.Fprintln(os.Stderr, "NOT TESTED: the pages in a real browser; chromium is not installed (Debian: apt-get install chromium)")
		return 1
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", true))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	browser, quit := chromedp.NewContext(allocator)
	chromium = browser
	if err := chromedp.Do(browser); err != nil {
		fmt.Fprintf(os.Stderr, "NOT TESTED: the pages in a real browser; chromium does not start: %v\n", err)
		return 1
	}
	code := m.Run()
	quit()
	stop()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// tab is a tab of the browser.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu sync.Mutex
	// faults are what the page must never cause: exceptions, violations of its policy, dialogs.
	faults []string
}

// open shows a page in a tab of its own, so many pixels wide, and fails the test for every
// fault of the page.
func open(t *testing.T, url string, width int64, steps ...chromedp.Action[chromedp.Void]) *tab {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(chromium)
	ctx, cancel := context.WithTimeout(ctx, limit)
	o := &tab{t: t, ctx: ctx}
	t.Cleanup(func() {
		cancel()
		closeTab()
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, fault := range o.faults {
			t.Error(fault)
		}
	})
	if err := chromedp.Listen(ctx, o.listen); err != nil {
		t.Fatal(err)
	}
	call(o, log.Enable, cdp.Empty{})
	o.do(chromedp.EmulateViewport(width, 900))
	o.do(append(steps, chromedp.Navigate(url), chromedp.WaitVisible("#main"))...)
	return o
}

func (o *tab) listen(event any) {
	fault := ""
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		fault = "the page's script failed: " + e.ExceptionDetails.Text
	case *page.EventJavascriptDialogOpening:
		fault = "the page opened a dialog: " + e.Message
	case *log.EventEntryAdded:
		if strings.Contains(e.Entry.Text, "Content Security Policy") {
			fault = e.Entry.Text
		}
	}
	if fault == "" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.faults = append(o.faults, fault)
}

// do runs actions in the tab.
func (o *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	o.t.Helper()
	if err := chromedp.Do(o.ctx, steps...); err != nil {
		o.t.Fatal(err)
	}
}

// call runs a command of the browser's protocol.
func call[P, R any](o *tab, command cdp.Command[P, R], params P) R {
	o.t.Helper()
	r, err := chromedp.Call(o.ctx, command, params)
	if err != nil {
		o.t.Fatal(err)
	}
	return r
}

// eval returns what a JavaScript expression is in the page; a promise is waited for.
func eval[T any](o *tab, expression string) T {
	o.t.Helper()
	v, err := chromedp.Run(o.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		o.t.Fatalf("%s: %v", expression[:min(len(expression), 200)], err)
	}
	return v
}

// run evaluates a script.
func (o *tab) run(script string) {
	o.t.Helper()
	eval[chromedp.Void](o, script)
}

// until waits for an expression to become true.
func (o *tab) until(what, expression string) {
	o.t.Helper()
	if err := chromedp.Do(o.ctx, chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingTimeout(limit/2))); err != nil {
		o.t.Fatalf("waited in vain: %s: %v", what, err)
	}
}

// text returns the visible text of an element.
func (o *tab) text(selector string) string {
	o.t.Helper()
	return eval[string](o, fmt.Sprintf("document.querySelector(%q).innerText", selector))
}

// elapse lets time pass in the page, as fast as it goes.
func (o *tab) elapse(d time.Duration) {
	o.t.Helper()
	over := chromedp.Events(o.ctx, emulation.VirtualTimeBudgetExpired)
	budget := float64(d.Milliseconds())
	call(o, emulation.SetVirtualTimePolicy, emulation.SetVirtualTimePolicyParams{Policy: emulation.VirtualTimePolicyPauseIfNetworkFetchesPending, Budget: &budget})
	for _, err := range over {
		if err != nil {
			o.t.Fatalf("the time of the page does not pass: %v", err)
		}
		break
	}
}

// dark makes a page dark, or light.
func dark(on bool) chromedp.Action[chromedp.Void] {
	scheme := "light"
	if on {
		scheme = "dark"
	}
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	})
}

// contains reports whether a text has every word.
func contains(text string, words ...string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}
