// Checks dashboards against Grafana's own schema, as Grafana's foundation SDK for Go has it: every field known, of its
// type, and none missing. Prints what is wrong.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	// The schemas of panels and queries, which the dashboard's own schema leaves open.
	plugins.RegisterDefaultPlugins()
	status := 0
	for _, path := range os.Args[1:] {
		if err := check(path); err != nil {
			fmt.Printf("%s: %v\n", path, err)
			status = 1
		}
	}
	os.Exit(status)
}

func check(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	board := dashboard.Dashboard{}
	if err := board.UnmarshalJSONStrict(text); found(err) {
		return err
	}
	if err := board.Validate(); found(err) {
		return err
	}
	fmt.Printf("%s: %d panels\n", path, len(board.Panels))
	return nil
}

// found says whether an error holds any: the SDK may return one that is not nil, and empty.
func found(err error) bool {
	var all cog.BuildErrors
	if errors.As(err, &all) {
		return len(all) > 0
	}
	return err != nil
}
