package attache_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"attache/configs"
)

// instructions are those of the Dockerfile's last stage, which becomes the
// image: what each says, by its name. Of several with one name the last counts,
// as it does for all that we ask for.
func instructions(t *testing.T) map[string]string {
	t.Helper()
	text := strings.ReplaceAll(readPage(t, "Dockerfile"), "\\\n", " ")
	image := map[string]string{}
	for line := range strings.Lines(text) {
		name, says, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "FROM" {
			clear(image)
		}
		image[name] = strings.TrimSpace(says)
	}
	return image
}

func TestTheImageIsTheBinaryAloneAndNobodysRoot(t *testing.T) {
	image := instructions(t)
	for name, want := range map[string]string{
		"FROM":       "scratch",
		"USER":       "65532:65532", // numbers: Kubernetes' runAsNonRoot cannot look up a name
		"VOLUME":     "/data",
		"ENTRYPOINT": `["/attache"]`,
		"CMD":        `["serve"]`,
		"EXPOSE":     "3128",
	} {
		if image[name] != want {
			t.Errorf("%s is %q, want %q", name, image[name], want)
		}
	}
	_, check, _ := strings.Cut(image["HEALTHCHECK"], "CMD ")
	var command []string
	if err := json.Unmarshal([]byte(check), &command); err != nil {
		t.Fatalf("HEALTHCHECK %q: without a shell in the image, it has to be a list: %v", image["HEALTHCHECK"], err)
	}
	if diff := cmp.Diff([]string{"/attache", "healthcheck"}, command); diff != "" {
		t.Errorf("HEALTHCHECK (-want +got):\n%s", diff)
	}
}

func TestTheImagesVariablesAreAConfiguration(t *testing.T) {
	set := map[string]string{}
	for variable := range strings.FieldsSeq(instructions(t)["ENV"]) {
		name, value, _ := strings.Cut(variable, "=")
		set[name] = value
	}
	cfg := configs.Default()
	if err := cfg.ApplyEnvironment(func(name string) (string, bool) { v, ok := set[name]; return v, ok }); err != nil {
		t.Fatal(err)
	}
	if got := cfg.Listen.String(); got != "0.0.0.0:3128" {
		t.Errorf("the proxy listens on %s, and the image exposes port 3128", got)
	}
	if cfg.DataDir != "/data" || set["TMPDIR"] != "/data" {
		t.Errorf("data goes to %q and temporary files to %q, and the volume is /data", cfg.DataDir, set["TMPDIR"])
	}
	if !cfg.Production {
		t.Error("the first start would print an access token, which ends in the container's log")
	}
	if def := configs.Default(); cfg.Admin.Listen != def.Admin.Listen || cfg.Metrics.Listen != def.Metrics.Listen {
		t.Errorf("the API on %s or the metrics on %s leave the container", cfg.Admin.Listen, cfg.Metrics.Listen)
	}
}

// Variables that have a reader and are no keys of the configuration.
var otherVariables = []string{"ATTACHE_CONFIG", "ATTACHE_SERVER", "ATTACHE_ADMIN_TOKEN", "ATTACHE_ADMIN_TOKEN_FILE"}

func TestWhatWeShipNamesVariablesThatExist(t *testing.T) {
	for _, file := range []string{"Dockerfile", "README.md", "docs/container.md", "configs/attache.service"} {
		named := regexp.MustCompile(`\bATTACHE_[A-Z_]*[A-Z]\b`).FindAllString(readPage(t, file), -1)
		if len(named) == 0 {
			t.Errorf("%s names none: does it say how to configure?", file)
		}
		slices.Sort(named)
		environ := slices.Compact(named)
		for i := range environ {
			environ[i] += "=x"
		}
		for _, unknown := range configs.UnknownVariables(environ, otherVariables...) {
			t.Errorf("%s: %s", file, unknown)
		}
	}
}

func TestTheImageIsBuiltWithTheModulesGo(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)
	got := regexp.MustCompile(`(?m)^FROM \S+ \S+/golang:(\S+) AS build$`).FindStringSubmatch(readPage(t, "Dockerfile"))
	if want == nil || got == nil || string(want[1]) != got[1] {
		t.Errorf("go.mod says %q, and the Dockerfile %q", want, got)
	}
}
