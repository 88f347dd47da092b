package main_test

import (
	"context"
	"os/exec"
	"regexp"
	"slices"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is a Chromium.
type browser struct {
	ctx context.Context //nolint:containedctx // what chromedp keeps a browser in
}

// startBrowser starts a browser that ends with t.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v: the page is tested in it", err)
	}
	opts := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(program), chromedp.Env("HOME="+t.TempDir()),
		chromedp.NoSandbox, // root, and users within containers, can not have one; the pages are ours
		chromedp.DisableGPU, chromedp.WindowSize(1280, 800),
		// It is to talk to nobody else.
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-quic", true),
	)
	ctx, stop := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), opts...)
	t.Cleanup(stop) // waits for its end
	ctx, _ = chromedp.NewContext(ctx)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("stop %s: %v", program, err)
		}
	})
	return &browser{ctx}
}

// tab is the start page of a server in a browser.
type tab struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // what chromedp keeps a tab in
	url string          // of the server
}

// open opens the page in a tab that ends with t. Whatever the browser then says in
// the tab's console, a violation of the Content-Security-Policy included, fails t,
// unless it matches expected, which may be nil.
func (b *browser) open(t *testing.T, s *server, expected *regexp.Regexp) *tab {
	t.Helper()
	return newTab(t, s.url, expected, b.ctx, chromedp.WithNewBrowserContext())
}

// another opens the page once more, in a window of its own of the same profile.
func (p *tab) another() *tab {
	p.t.Helper()
	return newTab(p.t, p.url, nil, p.ctx, chromedp.WithNewWindow(true))
}

func newTab(t *testing.T, url string, expected *regexp.Regexp, parent context.Context, option chromedp.ContextOption) *tab { //nolint:revive // t comes first
	t.Helper()
	ctx, closeTab := chromedp.NewContext(parent, option)
	p := &tab{t, ctx, url}
	const last = "the test has ended"
	messages := chromedp.Console(ctx)
	var console sync.WaitGroup
	console.Go(func() {
		for m, err := range messages {
			if err != nil || m.Text == last {
				return
			}
			if expected == nil || !expected.MatchString(m.Text) {
				t.Errorf("the console says: %s (%s %s)", m, m.Source, m.URL)
			}
		}
	})
	t.Cleanup(func() {
		defer console.Wait()
		defer closeTab()
		if t.Failed() {
			t.Logf("the page shows:\n%s", eval[string](p, `document.body.innerText`))
		}
		eval[bool](p, `console.info('`+last+`'), true`)
		console.Wait() // for what was said before
	})
	p.goTo("/")
	return p
}

// do runs an action in the tab.
func (p *tab) do(action chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, action); err != nil {
		p.t.Fatal(err)
	}
}

// eval returns the value of an expression in the tab, of a promise what it becomes.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// waits waits until a condition holds in the tab, and does something meanwhile.
func (p *tab) waits(what, condition string, meanwhile ...func()) {
	p.t.Helper()
	eventually(p.t, what, func() bool {
		for _, do := range meanwhile {
			do()
		}
		return eval[bool](p, condition)
	})
}

// click clicks the first element that a selector finds, as soon as it is there.
func (p *tab) click(selector string) {
	p.t.Helper()
	p.waits("there is "+selector, `shown('`+selector+`')`)
	eval[bool](p, `document.querySelector('`+selector+`').click(), true`)
}

// press presses keys, one after the other.
func (p *tab) press(keys string) {
	p.t.Helper()
	p.do(chromedp.KeyEvent(keys))
}

// goTo opens another address, by loading it.
func (p *tab) goTo(path string) {
	p.t.Helper()
	p.do(chromedp.Navigate(p.url + path))
	eval[bool](p, helpers)
}

// heap returns how much memory the page's objects take, without those that are garbage,
// in bytes.
func (p *tab) heap() (used int) {
	p.t.Helper()
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		if _, err := cdp.Call(ctx, t, heapprofiler.CollectGarbage, cdp.Empty{}); err != nil {
			return err
		}
		usage, err := cdp.Call(ctx, t, runtime.GetHeapUsage, cdp.Empty{})
		used = int(usage.UsedSize)
		return err
	}))
	return used
}

// screenshot returns what the page looks like, as PNG.
func (p *tab) screenshot() []byte {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Fatal(err)
	}
	return png
}

// scheme has the system choose light or dark.
func (p *tab) scheme(name string) {
	p.t.Helper()
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
		})
		return err
	}))
}

// fits checks that nothing is wider than a small phone.
func (p *tab) fits() {
	p.t.Helper()
	p.do(chromedp.EmulateViewport(360, 740, chromedp.EmulateMobile))
	if width := eval[int](p, `document.documentElement.scrollWidth`); width != 360 {
		p.t.Errorf("the page is %d px wide where the screen has 360", width)
	}
	p.do(chromedp.ResetViewport())
}

// notReloaded checks that the page is still the one that was opened.
func (p *tab) notReloaded() {
	p.t.Helper()
	if !eval[bool](p, `'drawn' in window`) {
		p.t.Error("the page was loaded again")
	}
}
