package browser_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"rollcall/internal/jobs"
	"rollcall/internal/web"
)

// waiting is what the card of that name shows.
const waiting = `document.querySelector("#cards dd").textContent`

func TestAReplicaThatIsGoneIsNotShownAsReady(t *testing.T) {
	t.Parallel()
	d := serve(t, busy())
	o := open(t, d.url(), 1280)
	good := eval[string](o, `getComputedStyle(document.querySelector("#state.pill.good")).backgroundColor`)
	d.die()
	o.until("the page misses the replica", `document.documentElement.classList.contains("lost")`)
	if got := eval[string](o, "document.title"); got != "No answer · mail · Rollcall" {
		t.Errorf("the title is %q", got)
	}
	if got := o.text("#state"); got != "no answer" {
		t.Errorf("the state is %q", got)
	}
	if n := eval[int](o, fmt.Sprintf(`[...document.querySelectorAll(".pill")].filter(p => getComputedStyle(p).backgroundColor === %q).length`, good)); n != 0 {
		t.Errorf("%d pills are green", n)
	}
	if got := o.text("#lost"); !strings.Contains(got, "does not answer") || !strings.Contains(got, "as of 2026-01-02 12:00:07 UTC") {
		t.Errorf("the alert is %q", got)
	}
	if n := eval[int](o, `[...document.querySelectorAll("[role=alert]")].filter(a => a.textContent.includes("answer")).length`); n != 1 {
		t.Errorf("%d alerts for one cause", n)
	}

	d.start()
	o.until("the page finds the replica again", `!document.documentElement.classList.contains("lost")`)
	if got := o.text("#state"); got != "ready" {
		t.Errorf("the state is %q after the replica is back", got)
	}
	if got := eval[string](o, "document.title"); !strings.Contains(got, "waiting") {
		t.Errorf("the title is %q after the replica is back", got)
	}
}

func TestSelectedTextSurvivesARefresh(t *testing.T) {
	t.Parallel()
	d := serve(t, busy())
	o := open(t, d.url(), 1280)
	// From one cell into another, one of which changes with every second.
	o.run(`(() => {
		const row = document.querySelectorAll("#batches tbody tr")[3];
		const range = document.createRange();
		range.setStart(row.querySelector("time").firstChild, 0);
		range.setEnd(row.querySelector(".id").firstChild, 36);
		getSelection().removeAllRanges();
		getSelection().addRange(range);
	})()`)
	before := eval[string](o, "getSelection().toString()")
	if !strings.Contains(before, batchID(97)) {
		t.Fatalf("selected %q", before)
	}
	d.change(func(s *web.Status) {
		s.At = noon.Add(time.Minute)
		s.Pool.Waiting = 17
		s.Batches = append([]jobs.BatchSummary{batch(-2), batch(-1)}, s.Batches...)
	})
	o.until("the page is refreshed", waiting+` === "17"`)
	if got := eval[string](o, `document.querySelector("#batches .id").textContent`); got != batchID(102) {
		t.Errorf("the first batch is %s, want the new one", got)
	}
	if got := eval[string](o, "getSelection().toString()"); got != before {
		t.Errorf("after the refresh %q is selected, want %q", got, before)
	}
}

func TestOneClickSelectsAWholeID(t *testing.T) {
	t.Parallel()
	o := open(t, serve(t, busy()).url(), 1280)
	o.do(chromedp.ScrollIntoView("#batches .id"), chromedp.Click("#batches .id"))
	if got := eval[string](o, "getSelection().toString()"); strings.TrimSpace(got) != batchID(100) {
		t.Errorf("a click selects %q, want %q", got, batchID(100))
	}
}

func TestAFrozenPageStandsStill(t *testing.T) {
	t.Parallel()
	for what, freeze := range map[string]bool{"frozen": true, "not frozen": false} {
		d := serve(t, busy())
		o := open(t, d.url(), 1280)
		if got := o.text("#freeze"); got != "Freeze page" {
			t.Errorf("the button says %q", got)
		}
		if freeze {
			o.do(chromedp.Click("#freeze"))
		}
		asked := d.asked()
		o.elapse(time.Minute)
		n := d.asked() - asked
		if freeze && n > 1 || !freeze && n < 10 { // one may have been under way
			t.Errorf("%s, a page asks %d times within a minute", what, n)
		}
	}
}

func TestAFrozenPageGoesOnWhenAsked(t *testing.T) {
	t.Parallel()
	d := serve(t, busy())
	o := open(t, d.url(), 1280)
	o.do(chromedp.Click("#freeze"))
	if got := o.text("#freeze"); got != "Unfreeze page" {
		t.Errorf("the button of a frozen page says %q", got)
	}
	d.change(func(s *web.Status) { s.Pool.Waiting = 17 })
	if got := eval[string](o, waiting); got == "17" {
		t.Error("a frozen page changed")
	}
	o.do(chromedp.Click("#freeze"))
	o.until("the page goes on", waiting+` === "17"`)
}

// stop is where the focus is.
type stop struct {
	Name    string
	Outline bool
	// Again means that the focus was here before.
	Again   bool
	Details bool
}

// focus returns the next stop.
const focus = `(() => {
	const e = document.activeElement;
	const style = getComputedStyle(e);
	window.stops ??= new Set();
	const again = window.stops.has(e);
	window.stops.add(e);
	return {
		Name: e === document.body ? "" : e.id || e.getAttribute("aria-label") || e.textContent.trim(), Again: again,
		Outline: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
		Details: e.matches("#replicas summary"),
	};
})()`

func TestKeyboardReachesEverythingAndSeesWhereItIs(t *testing.T) {
	t.Parallel()
	d := serve(t, busy())
	o := open(t, d.url(), 1280)
	o.do(chromedp.KeyEvent(kb.Tab))
	if got := eval[bool](o, `document.activeElement.matches(".skip") && document.activeElement.getBoundingClientRect().width > 10`); !got {
		t.Error("the first stop is not the visible link to the content")
	}
	o.do(chromedp.KeyEvent(kb.Enter))
	if got := eval[string](o, "document.activeElement.id"); got != "main" {
		t.Errorf("the link leads to %q", got)
	}
	var names []string
	for range 60 {
		o.do(chromedp.KeyEvent(kb.Tab))
		at := eval[stop](o, focus)
		if at.Again {
			break
		}
		names = append(names, at.Name)
		if !at.Outline && at.Name != "" {
			t.Errorf("%q has the focus, and nothing shows it", at.Name)
		}
		if at.Details {
			o.do(chromedp.KeyEvent(kb.Enter))
		}
	}
	for _, want := range []string{"replicas", "services", "batches", "process", "Settings (2)", "JSON", "Metrics", "Readiness"} {
		if !slices.Contains(names, want) {
			t.Errorf("Tab does not reach %q; it reaches %q", want, names)
		}
	}
	const opened = `document.querySelectorAll("#replicas details[open]").length`
	if got := eval[int](o, opened); got != 3 {
		t.Errorf("Enter opens %d of 3 details", got)
	}
	d.change(func(s *web.Status) { s.Pool.Waiting = 17 })
	o.until("the page is refreshed", waiting+` === "17"`)
	if got := eval[int](o, opened); got != 3 {
		t.Errorf("after a refresh %d of 3 details are open", got)
	}
}

func TestTheChartSaysWhenAndHowMany(t *testing.T) {
	t.Parallel()
	o := open(t, serve(t, busy()).url(), 1280)
	scale := eval[[]string](o, `[...document.querySelectorAll("#chart .scale span")].map(s => s.textContent)`)
	if len(scale) != 3 || scale[2] != "0" || scale[0] == "0" {
		t.Errorf("the scale is %v", scale)
	}
	times := eval[[]string](o, `[...document.querySelectorAll("#chart .times text")].map(s => s.textContent)`)
	if len(times) != 5 || times[4] != "12:00" {
		t.Errorf("the times are %v", times)
	}
	// The mark of 12:00 stands where the bar of 12:00:00 begins.
	offset := eval[float64](o, `(() => {
		const bar = [...document.querySelectorAll("#chart .bars g")].find(g => g.querySelector("title").textContent.startsWith("2026-01-02 12:00:00"));
		const mark = [...document.querySelectorAll("#chart .times g")].find(g => g.textContent === "12:00").querySelector("line");
		return bar.querySelector(".hit").getBoundingClientRect().left - mark.getBoundingClientRect().left;
	})()`)
	if offset < -2 || offset > 2 {
		t.Errorf("the mark of 12:00 is %.1f pixels off its bar", offset)
	}
	if got := o.text("#chart .legend"); !strings.Contains(got, "jobs per second, times in UTC") {
		t.Errorf("the legend is %q", got)
	}
}

// cut lists what does not fit into the window, or into its own box.
const cut = `(() => {
	const all = [];
	const name = e => e.tagName + "." + e.className + " in " + (e.closest("[id]") || document.body).id + ": " + e.textContent.trim().slice(0, 40);
	if (document.documentElement.scrollWidth > innerWidth) all.push("the page is " + document.documentElement.scrollWidth + " pixels wide");
	for (const e of document.querySelectorAll("main *, header *")) {
		const box = e.getBoundingClientRect();
		if (box.width <= 1 || e.closest("svg, .hidden, .skip, thead") || !e.checkVisibility()) continue;
		if (box.left < -1 || box.right > innerWidth + 1) all.push("beyond the window: " + name(e));
		if (e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 && getComputedStyle(e).overflowX !== "visible") all.push("cut: " + name(e));
	}
	return all.slice(0, 8);
})()`

func TestNothingIsCutAtAnyWidth(t *testing.T) {
	t.Parallel()
	for what, s := range map[string]web.Status{"busy": busy(), "away": away(), "wide": wide()} {
		for _, width := range []int64{320, 400, 768, 1024, 1440} {
			t.Run(fmt.Sprintf("%s at %d", what, width), func(t *testing.T) {
				t.Parallel()
				o := open(t, serve(t, s).url(), width)
				o.run(`document.querySelectorAll("details").forEach(d => { d.open = true; })`)
				for _, c := range eval[[]string](o, cut) {
					t.Error(c)
				}
			})
		}
	}
}

func TestHostileTextsStayTexts(t *testing.T) {
	t.Parallel()
	const attack = `"'><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">` + "\u2028\x1b[31m\u202e" + `javascript:window.hacked=1`
	s := away()
	n := plant(reflect.ValueOf(&s).Elem(), attack)
	if n < 60 {
		t.Fatalf("only %d texts were planted", n)
	}
	o := open(t, serve(t, s).url(), 1280)
	o.until("the attack is shown", `document.body.innerText.includes("<script>window.hacked")`)
	d := eval[map[string]any](o, `({
		hacked: window.hacked ?? 0,
		scripts: document.scripts.length,
		images: document.querySelectorAll("img").length,
		hidden: /[\u001b\u2028\u202e]/.test(document.body.textContent + document.title),
		handlers: [...document.querySelectorAll("*")].filter(e => [...e.attributes].some(a => a.name.startsWith("on"))).length,
	})`)
	if d["hacked"] != 0.0 || d["scripts"] != 1.0 || d["images"] != 1.0 || d["handlers"] != 0.0 || d["hidden"] != false {
		t.Errorf("a text became more than a text: %v", d)
	}
	asked := `performance.getEntriesByType("resource").filter(e => e.initiatorType === "fetch").length`
	before := eval[int](o, asked)
	o.until("the page is refreshed with it", fmt.Sprintf("%s > %d && !document.documentElement.classList.contains('lost')", asked, before+1))
	if hacked := eval[int](o, "window.hacked ?? 0"); hacked != 0 {
		t.Error("a refresh ran a text")
	}
}

// plant puts text into every string below v and counts them.
func plant(v reflect.Value, text string) (n int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
		return 1
	case reflect.Pointer:
		return plant(v.Elem(), text)
	case reflect.Slice:
		for i := range v.Len() {
			n += plant(v.Index(i), text)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return 0
		}
		for i := range v.NumField() {
			n += plant(v.Field(i), text)
		}
	}
	return n
}

func TestIconAndVersion(t *testing.T) {
	t.Parallel()
	s := busy()
	s.Replica.Version, s.Replica.Revision = "(devel)", "unknown"
	o := open(t, serve(t, s).url(), 1280)
	o.until("the icon is loaded", `document.querySelector("img.mark").complete`)
	if got := eval[int](o, `document.querySelector("img.mark").naturalWidth`); got == 0 {
		t.Error("the icon is no image")
	}
	if got := o.text("#process"); !strings.Contains(got, "development build") || strings.Contains(got, "devel)") || strings.Contains(got, "unknown") {
		t.Errorf("the version is shown as %q", got)
	}
}

// violation is what axe-core reports.
type violation struct {
	ID    string `json:"id"`
	Help  string `json:"help"`
	Nodes []struct {
		Target  []string `json:"target"`
		Summary string   `json:"failureSummary"`
	} `json:"nodes"`
}

func TestAxeFindsNothing(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Fatalf("NOT TESTED: accessibility; axe-core is not installed (npm ci, as `make browser` does): %v", err)
	}
	starting := web.Status{At: noon, Replica: jobs.ReplicaState{Replica: "a", Pool: "mail", Phase: "starting", Success: -1}, Checks: []web.Check{{Name: "working", Detail: "connecting"}}}
	for what, s := range map[string]web.Status{"busy": busy(), "away": away(), "starting": starting, "lost": busy()} {
		for _, width := range []int64{400, 1280} {
			for _, isDark := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s at %d, dark %v", what, width, isDark), func(t *testing.T) {
					t.Parallel()
					d := serve(t, s)
					o := open(t, d.url(), width, dark(isDark))
					if what == "lost" {
						d.die()
						o.until("the page misses the replica", `document.documentElement.classList.contains("lost")`)
					}
					o.run(`document.querySelectorAll("details").forEach(d => { d.open = true; })`)
					o.run(string(source))
					for _, v := range eval[[]violation](o, `axe.run().then(r => JSON.parse(JSON.stringify(r.violations)))`) {
						lines, _ := json.MarshalIndent(v.Nodes[:min(len(v.Nodes), 3)], "", " ")
						t.Errorf("%s: %s\n%s", v.ID, v.Help, lines)
					}
				})
			}
		}
	}
}

func TestDarkIsDark(t *testing.T) {
	t.Parallel()
	const background = `getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number).reduce((a, b) => a + b)`
	d := serve(t, busy())
	light, night := open(t, d.url(), 1280, dark(false)), open(t, d.url(), 1280, dark(true))
	if l, n := eval[float64](light, background), eval[float64](night, background); l < 600 || n > 150 {
		t.Errorf("the background adds up to %v in light and %v in dark", l, n)
	}
}

func TestScreenshotsForTheDocumentation(t *testing.T) {
	if *screenshots == "" {
		t.Skip("written by `make screenshots`")
	}
	for name, p := range map[string]struct {
		status web.Status
		width  int64
		height int64
		dark   bool
	}{
		"dashboard":       {busy(), 1280, 1500, false},
		"dashboard-dark":  {away(), 1280, 900, true},
		"dashboard-phone": {busy(), 400, 900, false},
	} {
		o := open(t, serve(t, p.status).url(), p.width, dark(p.dark), chromedp.EmulateViewport(p.width, p.height))
		png, err := chromedp.Run(o.ctx, chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(*screenshots, name+".png"), png, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
