package temps

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const spec = "../../spec/v1"

type vector struct {
	kind    string
	isValid bool
	Text    *string         `json:"text"`
	Input   json.RawMessage `json:"input"`
	Meaning json.RawMessage `json:"normalized"`
	Field   string          `json:"field"`
	TakesIn []string        `json:"takes_in"`
	Leaves  []string        `json:"leaves_out"`
}

func (v vector) wire() []byte {
	if v.Text != nil {
		return []byte(*v.Text)
	}
	return v.Input
}

// eachVector runs a test for each vector of the specification.
func eachVector(t *testing.T, test func(t *testing.T, v vector)) {
	t.Helper()
	files, err := filepath.Glob(spec + "/vectors/*/*/*.json")
	if err != nil || len(files) < 200 {
		t.Fatalf("only %d vectors were found: %v", len(files), err)
	}
	for _, file := range files {
		place, _ := filepath.Rel(spec+"/vectors", file)
		parts := strings.Split(place, "/")
		t.Run(place, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			v := vector{kind: parts[0], isValid: parts[1] == "valid"}
			if err := json.Unmarshal(text, &v); err != nil {
				t.Fatal(err)
			}
			test(t, v)
		})
	}
}

func reader[T any](text []byte) (any, error) {
	var value T
	err := decode(text, &value)
	return value, err
}

func lenient[T any](read func([]byte) (T, error)) func([]byte) (any, error) {
	return func(text []byte) (any, error) { return read(text) }
}

func rule(name string, holds func(string) bool) func([]byte) (any, error) {
	return func(text []byte) (any, error) {
		if !holds(string(text)) {
			return nil, &wireError{"", "is no " + name}
		}
		return nil, nil
	}
}

// readHostFrame is a frame of the host as JSON again.
func readHostFrame(text []byte) (any, error) {
	frame, err := readFrame(text)
	switch {
	case err != nil:
		return nil, err
	case frame.response != nil:
		return readWrittenResponse(text)
	case frame.event != nil:
		return map[string]any{"type": "event", "event": frame.event}, nil
	case frame.config != nil:
		return map[string]any{"type": "config", "config": frame.config.Config, "revision": frame.config.Revision}, nil
	default:
		return nil, &wireError{"type", "a frame of another version"}
	}
}

func readWrittenResponse(text []byte) (any, error) {
	response, err := readResponse(text)
	if err != nil {
		return nil, err
	}
	meaning := map[string]any{"type": "response", "id": response.id}
	if failure, ok := response.err.(*ChannelError); ok {
		said := map[string]any{"code": failure.Code, "message": failure.Message}
		if failure.Code == CodeConflict {
			said["revision"] = failure.Revision
		}
		meaning["error"] = said
	} else {
		meaning["result"] = response.result
	}
	return meaning, nil
}

func readWholeManifest(text []byte) (any, error) {
	manifest, err := readManifest(text)
	if err != nil {
		return nil, err
	}
	manifest.HealthPath = manifest.healthPath()
	return manifest, nil
}

// readers has one for each kind that a plugin reads, or checks before it writes it.
var readers = map[string]func([]byte) (any, error){
	"PluginManifest":      readWholeManifest,
	"Ready":               lenient(readReady),
	"Response":            readWrittenResponse,
	"HostFrame":           readHostFrame,
	"PluginEvent":         lenient(readEvent),
	"ProjectInfo":         reader[Project],
	"EnvironmentInfo":     reader[Environment],
	"DeploymentInfo":      reader[Deployment],
	"Configuration":       reader[Configuration],
	"KvEntry":             reader[Entry],
	"KvPage":              reader[Page],
	"DeploymentCreated":   reader[DeploymentCreated],
	"DeploymentReady":     reader[DeploymentReady],
	"DeploymentSucceeded": reader[DeploymentSucceeded],
	"DeploymentFailed":    reader[DeploymentFailed],
	"DeploymentCancelled": reader[DeploymentCancelled],
	"ProjectSubject":      reader[ProjectSubject],
	"EnvironmentSubject":  reader[EnvironmentSubject],
	"PluginName":          rule("name", func(name string) bool { return nameProblem(name) == "" }),
	"EventPattern":        rule("pattern", IsPattern),
	"FeatureList":         func(text []byte) (any, error) { return parseFeatures(string(text)), nil },
}

// written are kinds that only a plugin writes.
var written = []string{"Ack", "Request", "MethodParams", "KvParams"}

func TestEveryValidVectorIsReadAsItIsMeant(t *testing.T) {
	eachVector(t, func(t *testing.T, v vector) {
		read, ok := readers[v.kind]
		if !ok && !slices.Contains(written, v.kind) {
			t.Fatalf("%s has no reader", v.kind)
		}
		if !ok || !v.isValid {
			return
		}
		meaning, err := read(v.wire())
		if err != nil {
			t.Fatal(err)
		}
		wanted := v.Meaning
		if wanted == nil {
			wanted = v.Input
		}
		if meaning != nil && wanted != nil {
			compare(t, meaning, wanted)
		}
	})
}

// compare looks for each wanted field. What is absent is the same as null, an empty list and false, which encoding/json leaves out.
func compare(t *testing.T, meaning any, wanted json.RawMessage) {
	t.Helper()
	text, err := json.Marshal(meaning)
	if err != nil {
		t.Fatal(err)
	}
	var have, want any
	if json.Unmarshal(text, &have) != nil || json.Unmarshal(wanted, &want) != nil {
		t.Fatalf("%s and %s are not both JSON", text, wanted)
	}
	fields, ok := want.(map[string]any)
	if !ok {
		if !reflect.DeepEqual(have, want) {
			t.Fatalf("read %s, wanted %s", text, wanted)
		}
		return
	}
	for name, value := range fields {
		if got := have.(map[string]any)[name]; name != "type" && name != "ready" && !isSame(got, value) && isKnown(meaning, name) {
			t.Errorf("%s: read %v, wanted %v", name, got, value)
		}
	}
}

func isSame(got, wanted any) bool {
	have, _ := got.(string)
	want, _ := wanted.(string)
	if moment, err := time.Parse(time.RFC3339, want); err == nil {
		other, err := time.Parse(time.RFC3339, have)
		return err == nil && moment.Equal(other) && strings.HasSuffix(have, "Z")
	}
	if list, ok := wanted.([]any); ok && len(list) == 0 && got == nil {
		return true
	}
	return reflect.DeepEqual(got, wanted) || (wanted == false && got == nil)
}

// isKnown leaves out fields of later versions, which a reader does not keep, and ui, which a plugin never writes.
func isKnown(meaning any, name string) bool {
	kind := reflect.TypeOf(meaning)
	return kind.Kind() != reflect.Struct || slices.Contains(namesOf(kind), name)
}

func namesOf(kind reflect.Type) []string {
	var names []string
	for index := range kind.NumField() {
		field := kind.Field(index)
		if field.Anonymous {
			names = append(names, namesOf(field.Type)...)
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

func TestEveryInvalidVectorIsRefusedAndTheRefusalNamesTheField(t *testing.T) {
	eachVector(t, func(t *testing.T, v vector) {
		read, ok := readers[v.kind]
		if !ok || v.isValid {
			return
		}
		_, err := read(v.wire())
		if err == nil {
			t.Fatalf("%s was read", v.wire())
		}
		if !strings.Contains(err.Error(), v.Field) {
			t.Fatalf("%q does not name %s", err, v.Field)
		}
	})
}

func TestPatternsTakeInWhatTheVectorsSay(t *testing.T) {
	eachVector(t, func(t *testing.T, v vector) {
		for _, kind := range v.TakesIn {
			if !Matches(*v.Text, kind) {
				t.Errorf("%s does not take in %s", *v.Text, kind)
			}
		}
		for _, kind := range v.Leaves {
			if Matches(*v.Text, kind) {
				t.Errorf("%s takes in %s", *v.Text, kind)
			}
		}
	})
}

func TestWhatAPluginWritesIsWhatTheVectorsShow(t *testing.T) {
	compared := 0
	eachVector(t, func(t *testing.T, v vector) {
		if !v.isValid {
			return
		}
		var input struct {
			Type, Method, Status, Error string
			ID                          json.RawMessage
			Params                      map[string]any
		}
		if json.Unmarshal(v.Input, &input) != nil {
			return
		}
		switch {
		case v.kind == "Ack" && input.Error != "":
			compare(t, json.RawMessage(ackFrame(unquoted(input.ID), &wireError{"", input.Error})), v.Input)
		case v.kind == "Ack" && input.Status == "ok":
			compare(t, json.RawMessage(ackFrame(unquoted(input.ID), nil)), v.Input)
		case v.kind == "Request" && input.Type == "request" && input.Params != nil:
			frame, err := requestFrame(input.ID, input.Method, input.Params)
			if err != nil {
				t.Fatal(err)
			}
			var written map[string]any
			if err := json.Unmarshal(frame, &written); err != nil {
				t.Fatal(err)
			}
			wanted := map[string]any{"type": "request", "method": input.Method, "params": input.Params}
			if id, _ := json.Marshal(written["id"]); !bytes.Equal(id, compact(input.ID)) {
				t.Errorf("wrote the id %s, wanted %s", id, input.ID)
			}
			for field, value := range wanted {
				if !reflect.DeepEqual(written[field], value) {
					t.Errorf("%s: wrote %v, wanted %v", field, written[field], value)
				}
			}
		default:
			return
		}
		compared++
	})
	if compared < 5 {
		t.Fatalf("only %d vectors were compared", compared)
	}
}

func compact(raw json.RawMessage) []byte {
	var value any
	_ = json.Unmarshal(raw, &value)
	text, _ := json.Marshal(value)
	return text
}

func unquoted(raw json.RawMessage) string {
	var text string
	_ = json.Unmarshal(raw, &text)
	return text
}

func TestStructsHaveTheFieldsOfTheirSchemas(t *testing.T) {
	for name, value := range map[string]any{
		"PluginManifest": Manifest{}, "Configuration": Configuration{}, "KvEntry": Entry{}, "KvPage": Page{}, "PluginEvent": Event{},
		"ProjectInfo": Project{}, "EnvironmentInfo": Environment{}, "DeploymentInfo": Deployment{},
		"DeploymentCreated": DeploymentCreated{}, "DeploymentReady": DeploymentReady{}, "DeploymentSucceeded": DeploymentSucceeded{},
		"DeploymentFailed": DeploymentFailed{}, "DeploymentCancelled": DeploymentCancelled{}, "ProjectSubject": ProjectSubject{},
		"EnvironmentSubject": EnvironmentSubject{},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(spec + "/schema/" + name + ".json")
			if err != nil {
				t.Fatal(err)
			}
			var schema struct{ Properties map[string]any }
			if err := json.Unmarshal(text, &schema); err != nil {
				t.Fatal(err)
			}
			// `type` is the handshake's; `ui` is read by hosts for the sake of existing plugins, and never needed.
			var wanted []string
			for property := range schema.Properties {
				if property != "type" && (name != "PluginManifest" || property != "ui") {
					wanted = append(wanted, property)
				}
			}
			have := namesOf(reflect.TypeOf(value))
			slices.Sort(wanted)
			slices.Sort(have)
			if !slices.Equal(have, wanted) {
				t.Fatalf("has %v, the schema %v", have, wanted)
			}
		})
	}
}

func TestThereIsAPayloadForEachEventTypeOfTheSpecificationAndNoOther(t *testing.T) {
	page, err := os.ReadFile("../../spec/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| Type | When |")
	table, _, _ = strings.Cut(table, "- **E-1**")
	named := regexp.MustCompile("`([a-z]+\\.[a-z.]+)`").FindAllStringSubmatch(table, -1)
	if len(named) != len(payloads) {
		t.Fatalf("the specification has %d types, the package %d", len(named), len(payloads))
	}
	for _, one := range named {
		if payloads[one[1]] == nil {
			t.Errorf("%s has no payload", one[1])
		}
	}
}

func TestEveryStepOfTheHostInTheTranscriptsIsRead(t *testing.T) {
	files, _ := filepath.Glob(spec + "/transcripts/*.jsonl")
	if len(files) < 10 {
		t.Fatalf("only %d transcripts", len(files))
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				readStep(t, []byte(line))
			}
		})
	}
}

func readStep(t *testing.T, line []byte) {
	var step struct {
		From, Kind, Text, Path string
		Args                   []string
		Env                    map[string]string
		Body                   json.RawMessage
	}
	if err := json.Unmarshal(line, &step); err != nil {
		t.Fatal(err)
	}
	var err error
	switch {
	case step.From == "host" && step.Kind == "frame":
		_, err = readFrame([]byte(step.Text))
	case step.Kind == "spawn":
		_, err = ReadLaunch(step.Args[1:], func(name string) string { return step.Env[name] })
	case step.Kind == "http_request" && step.Path == "/_events":
		_, err = readEvent(step.Body)
	}
	if err != nil {
		t.Errorf("%s: %v", line, err)
	}
}

func FuzzFramesOfTheHost(f *testing.F) {
	f.Add([]byte(`{"type":"response","id":1,"result":null}`))
	f.Add([]byte(`{"type":"event","event":{"id":"e","event_type":"a.b","timestamp":"2026-06-06T12:00:00Z"}}`))
	f.Add([]byte(`{"type":"config","config":{},"revision":1}`))
	f.Add([]byte(`{"type":"response","id":{"a":[1]},"error":{"code":"x","message":"y","revision":1e400}}`))
	f.Fuzz(func(t *testing.T, text []byte) { _, _ = readFrame(text) })
}
