package temps_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const checkout = "../.."

func TestTheGuideWorksAsItStands(t *testing.T) {
	page, err := os.ReadFile(checkout + "/docs/guides/write-a-plugin-go.md")
	must(t, err)
	var script strings.Builder
	blocks := regexp.MustCompile("(?s)```(\\S+) (\\S+)\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	for _, block := range blocks {
		kind, note, body := block[1], block[2], block[3]
		if file, isPart := strings.CutPrefix(note, "file="); isPart {
			whole, err := os.ReadFile(checkout + "/" + file)
			must(t, err)
			if !strings.Contains(string(whole), body) {
				t.Errorf("%s does not have this block:\n%s", file, body)
			}
		} else if kind == "sh" && note == "run" {
			script.WriteString(body)
		}
	}
	if len(blocks) < 4 {
		t.Fatalf("only %d blocks were found", len(blocks))
	}
	host := startRealHost(t)
	// The page's loops wait for ever; this does not.
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	command := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script.String())
	command.WaitDelay = time.Second
	command.Dir = checkout
	path := filepath.Dir(host.temps) + ":" + os.Getenv("PATH")
	command.Env = append(os.Environ(), "PATH="+path, "TEMPS_HOME="+host.home, "TEMPS_URL="+host.url)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestTheReadmesPluginIsTheOneThatCompiles(t *testing.T) {
	page, err := os.ReadFile("README.md")
	must(t, err)
	example, err := os.ReadFile("example_test.go")
	must(t, err)
	_, body, _ := strings.Cut(string(page), "func main() {\n")
	body, _, _ = strings.Cut(body, "```")
	if !strings.Contains(string(example), body) {
		t.Errorf("example_test.go does not have:\n%s", body)
	}
}
