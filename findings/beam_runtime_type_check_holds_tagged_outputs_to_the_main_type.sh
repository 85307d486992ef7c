#!/usr/bin/env bash
# Beam checks a tagged output at run time against the main output's type, also where the tag has a type of its own.
#
# Versions:  apache-beam 2.77.0, DirectRunner (which is its FnApiRunner).
# Behaviour: A step may say what each of its outputs holds: with_output_types(int, rejects=str). The graph knows it: the
#            PCollection of the tag has the element type str. With --runtime_type_check or
#            --performance_runtime_type_check the first reject ends the run all the same, with a TypeCheckError that
#            expects an int. So a pipeline with side outputs of another type cannot be run with either flag. The same
#            pipeline without the flags runs, and gives both outputs.
# Source:    apache_beam/transforms/ptransform.py, PTransform.with_output_types ("Type hints for tagged outputs");
#            apache_beam/typehints/typecheck.py and apache_beam/runners/worker/opcounters.py know one output type a step.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check apache-beam==2.77.0
cd "$place"
"$place/venv/bin/python" - <<'PYTHON'
import logging
import sys

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

logging.disable(logging.CRITICAL)


class Split(beam.DoFn):
    def process(self, number):
        yield number
        yield beam.pvalue.TaggedOutput("rejects", f"no {number}")


def run(flags):
    """The element types that the graph knows, and how the run ends."""
    try:
        with beam.Pipeline(options=PipelineOptions(flags)) as pipeline:
            numbers = pipeline | beam.Create([1, 2]).with_output_types(int)
            step = beam.ParDo(Split()).with_output_types(int, rejects=str)
            split = numbers | step.with_outputs("rejects", main="numbers")
            types = (split.numbers.element_type, split.rejects.element_type)
            split.numbers | "Numbers" >> beam.combiners.Count.Globally() | "Two" >> beam.Map(two)
            split.rejects | "Rejects" >> beam.combiners.Count.Globally() | "Two more" >> beam.Map(two)
    except beam.typehints.decorators.TypeCheckError as error:
        return types, str(error).splitlines()[-1]
    return types, "runs"


def two(count):
    assert count == 2


print("apache-beam", beam.__version__, file=sys.stdout)
for flags in ([], ["--runtime_type_check"], ["--performance_runtime_type_check"]):
    types, ended = run(flags)
    print(flags, "types of the outputs:", [each.__name__ for each in types], "|", ended)
    assert types == (int, str)
    if flags:
        assert "<class 'int'>" in ended and "no 1" in ended, ended
    else:
        assert ended == "runs"
PYTHON
