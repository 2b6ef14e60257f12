"""Options, stages, workdir and pipeline: the only place that knows configs, stages and files together."""
