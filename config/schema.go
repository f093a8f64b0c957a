package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// schema returns the JSON schema of a file, from the fields of the configurations. It is committed
// as service.schema.json, for editors and CI.
func schema() []byte {
	type object = map[string]any
	sections := object{}
	defs := object{
		"text":       object{"oneOf": []any{object{"type": "string"}, object{"$ref": "#/$defs/reference"}, object{"type": "null"}}},
		"depends_on": object{"type": []any{"array", "null"}, "items": object{"type": "string"}, "description": "names of the components that must be up first"},
		"reference": object{
			"type": "object", "additionalProperties": false, "minProperties": 1, "maxProperties": 1,
			"properties": object{
				"env":  object{"type": "string", "description": "the environment variable that holds the value"},
				"file": object{"type": "string", "description": "the file that holds the value"},
			},
		},
	}
	for _, k := range kinds() {
		own := schemaOf(k.config, true)
		props, _ := own["properties"].(object)
		props[dependsKey] = object{"$ref": "#/$defs/depends_on"}
		props[impactKey] = object{"enum": []any{"critical", "degrading", nil}, "description": "what a failed check does to readiness"}
		sections[k.section] = namesTo(own)
	}
	own := schemaOf(reflect.TypeFor[server](), true)
	props, _ := own["properties"].(object)
	props[dependsKey] = object{"$ref": "#/$defs/depends_on"}
	sections[serversKey] = namesTo(own)
	registry := schemaOf(reflect.TypeFor[lifecycle.Config](), true)
	props, _ = registry["properties"].(object)
	delete(props, healthKey)
	sections[lifecycleKey] = registry
	sections[healthKey] = schemaOf(reflect.TypeFor[health.Config](), true)
	defs["sections"] = object{"properties": sections}
	top := object{environmentsKey: object{"type": []any{"object", "null"}, "additionalProperties": object{
		"type": []any{"object", "null"}, "additionalProperties": false, "properties": refs(sections),
	}}}
	maps.Copy(top, refs(sections))
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	_ = enc.Encode(object{ // maps of strings cannot fail
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Connections of a service, for poolkeeper",
		"type": "object", "additionalProperties": false, "properties": top, "$defs": defs,
	})
	return out.Bytes()
}

func refs(sections map[string]any) map[string]any {
	out := map[string]any{}
	for name := range sections {
		out[name] = map[string]any{"$ref": "#/$defs/sections/properties/" + name}
	}
	return out
}

// namesTo returns the schema of a mapping from names to values of a schema.
func namesTo(of map[string]any) map[string]any {
	return map[string]any{"type": []any{"object", "null"}, "additionalProperties": of}
}

func schemaOf(t reflect.Type, named bool) map[string]any {
	props := map[string]any{}
	for _, k := range keysOf(t, named) {
		if k.form != inCode {
			props[k.name] = k.schema(t)
		}
	}
	return map[string]any{"type": []any{"object", "null"}, "additionalProperties": false, "properties": props}
}

func (k *key) schema(of reflect.Type) map[string]any {
	const duration = `\+?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+|0` // as time.ParseDuration, but not negative
	var out map[string]any
	switch k.form {
	case formSection:
		return schemaOf(k.typ, true)
	case formSections:
		return map[string]any{"type": []any{"array", "null"}, "items": schemaOf(k.typ.Elem(), false)}
	case formText:
		out = map[string]any{"$ref": "#/$defs/text"}
	case formTexts:
		text := map[string]any{"$ref": "#/$defs/text"}
		out = map[string]any{"anyOf": []any{map[string]any{"type": "array", "items": text}, text}}
	case formFlag:
		out = map[string]any{"type": []any{"boolean", "null"}}
	case formWhole:
		out = map[string]any{"type": []any{"integer", "null"}}
	case formWaiting:
		out = map[string]any{"oneOf": []any{map[string]any{"type": "integer", "minimum": 0}, map[string]any{"enum": []any{"none", nil}}}}
	case formPart:
		out = map[string]any{"oneOf": []any{map[string]any{"type": "number", "minimum": 0, "maximum": 1}, map[string]any{"enum": []any{"off", nil}}}}
	case formRatio:
		out = map[string]any{"type": []any{"number", "null"}, "minimum": 0, "maximum": 1}
	case formDuration:
		out = map[string]any{"type": []any{"string", "null"}, "pattern": "^(" + duration + ")?$"}
	case formMayBeOff:
		out = map[string]any{"type": []any{"string", "null"}, "pattern": "^(" + duration + "|off)?$"}
	case formWord:
		words := []any{nil}
		for _, w := range k.wordList() {
			words = append(words, w)
		}
		out = map[string]any{"enum": words}
	case inCode:
	}
	out["description"] = fmt.Sprintf("%s.%s: %s", of, k.field, k.allowed())
	return out
}
