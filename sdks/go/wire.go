package temps

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// wireError says which field of a message breaks a rule, and why.
type wireError struct{ field, message string }

func (e *wireError) Error() string {
	if e.field == "" {
		return e.message
	}
	return e.field + ": " + e.message
}

// within puts the name of an object before the field of an error.
func within(path string, err error) error {
	if wire, ok := err.(*wireError); ok {
		return &wireError{joined(path, wire.field), wire.message}
	}
	return err
}

func joined(path, field string) string {
	switch {
	case path == "":
		return field
	case field == "" || strings.HasPrefix(field, "["):
		return path + field
	default:
		return path + "." + field
	}
}

// decode reads JSON into a value by the protocol's rules, which are stricter and more lenient than those of encoding/json: names
// are exact, null stands for an absent field, a field tagged `wire:"required"` must be there, a wrong type is refused with its
// field's name, and unknown fields are left alone. `wire:"present"` must be there and may be null; `wire:"object"` is for raw
// JSON that must be an object where it is there.
func decode(text []byte, into any) error {
	if !json.Valid(text) {
		return &wireError{"", "this is not JSON"}
	}
	return decodeValue(bytes.TrimSpace(text), reflect.ValueOf(into).Elem(), "", "")
}

var (
	timeType = reflect.TypeFor[time.Time]()
	rawType  = reflect.TypeFor[json.RawMessage]()
)

func decodeValue(raw []byte, into reflect.Value, path, rules string) error {
	switch into.Type() {
	case timeType:
		return decodeTime(raw, into, path)
	case rawType:
		if strings.Contains(rules, "object") && raw[0] != '{' {
			return wrongType(path, "an object", raw)
		}
		into.SetBytes(bytes.Clone(raw))
		return nil
	}
	switch into.Kind() {
	case reflect.Struct:
		return decodeObject(raw, into, path)
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		return decodeValue(raw, into.Elem(), path, rules)
	case reflect.Slice:
		return decodeList(raw, into, path)
	case reflect.Int32, reflect.Int64:
		number, err := readInteger(raw, into.Type().Bits())
		if err != nil {
			return within(path, err)
		}
		into.SetInt(number)
		return nil
	case reflect.String:
		return decodePlain(raw, into, path, "a text")
	case reflect.Bool:
		return decodePlain(raw, into, path, "true or false")
	case reflect.Map:
		return decodePlain(raw, into, path, "an object")
	default:
		return decodePlain(raw, into, path, "something else")
	}
}

func decodePlain(raw []byte, into reflect.Value, path, wanted string) error {
	if isNull(raw) && into.Kind() != reflect.Interface || json.Unmarshal(raw, into.Addr().Interface()) != nil {
		return wrongType(path, wanted, raw)
	}
	return nil
}

func decodeObject(raw []byte, into reflect.Value, path string) error {
	var members map[string]json.RawMessage
	if raw[0] != '{' || json.Unmarshal(raw, &members) != nil {
		return wrongType(path, "an object", raw)
	}
	return decodeMembers(members, into, path)
}

func decodeMembers(members map[string]json.RawMessage, into reflect.Value, path string) error {
	for index := range into.NumField() {
		field := into.Type().Field(index)
		if field.Anonymous {
			if err := decodeMembers(members, into.Field(index), path); err != nil {
				return err
			}
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		rules := field.Tag.Get("wire")
		raw, isThere := members[name]
		raw = bytes.TrimSpace(raw)
		if rules == "present" && isThere {
			into.Field(index).SetBytes(bytes.Clone(raw))
			continue
		}
		if isThere && isNull(raw) && strings.Contains(rules, "object") {
			return wrongType(joined(path, name), "an object", raw)
		}
		if !isThere || isNull(raw) {
			if strings.Contains(rules, "required") || rules == "present" {
				return &wireError{joined(path, name), "is missing"}
			}
			continue
		}
		if err := decodeValue(raw, into.Field(index), joined(path, name), rules); err != nil {
			return err
		}
	}
	return nil
}

func decodeList(raw []byte, into reflect.Value, path string) error {
	var entries []json.RawMessage
	if raw[0] != '[' || json.Unmarshal(raw, &entries) != nil {
		return wrongType(path, "a list", raw)
	}
	list := reflect.MakeSlice(into.Type(), len(entries), len(entries))
	for index, entry := range entries {
		name := fmt.Sprintf("%s[%d]", path, index)
		if err := decodeValue(bytes.TrimSpace(entry), list.Index(index), name, ""); err != nil {
			return err
		}
	}
	into.Set(list)
	return nil
}

func decodeTime(raw []byte, into reflect.Value, path string) error {
	var text string
	if isNull(raw) || json.Unmarshal(raw, &text) != nil {
		return wrongType(path, "a time in RFC 3339", raw)
	}
	moment, err := time.Parse(time.RFC3339Nano, strings.ToUpper(text))
	if err != nil {
		return &wireError{path, fmt.Sprintf("%q is not a time in RFC 3339", shortened(text, 80))}
	}
	into.Set(reflect.ValueOf(moment.UTC()))
	return nil
}

// readInteger reads an integer of so many bits; 1.0 is one.
func readInteger(raw []byte, bits int) (int64, error) {
	if number, err := strconv.ParseInt(string(raw), 10, bits); err == nil {
		return number, nil
	}
	number, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		return 0, &wireError{"", "must be an integer, found " + kindOf(raw)}
	}
	limit := math.Ldexp(1, min(bits-1, 53))
	if number != math.Trunc(number) || number < -limit || number >= limit {
		return 0, &wireError{"", fmt.Sprintf("must be an integer of %d bits, found %s", bits, raw)}
	}
	return int64(number), nil
}

func wrongType(path, wanted string, raw []byte) error {
	return &wireError{path, fmt.Sprintf("must be %s, found %s", wanted, kindOf(raw))}
}

func isNull(raw []byte) bool { return len(raw) == 0 || string(raw) == "null" }

// kindOf is what a JSON value is, in words.
func kindOf(raw []byte) string {
	switch {
	case isNull(raw):
		return "nothing"
	case raw[0] == '{':
		return "an object"
	case raw[0] == '[':
		return "a list"
	case raw[0] == '"':
		return "a text"
	case raw[0] == 't' || raw[0] == 'f':
		return "true or false"
	default:
		return "a number"
	}
}
