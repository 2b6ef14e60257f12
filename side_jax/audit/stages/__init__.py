"""The stages in order. Each reads artifacts, calls the library, writes artifacts."""

from side_jax.audit.stage import Stage
from side_jax.audit.stages.detect import DetectStage
from side_jax.audit.stages.distill import DistillStage
from side_jax.audit.stages.extract import ExtractStage
from side_jax.audit.stages.label import LabelStage
from side_jax.audit.stages.recall import RecallStage
from side_jax.audit.stages.report import ReportStage
from side_jax.audit.stages.sanity import SanityStage
from side_jax.audit.stages.steer import SteerStage
from side_jax.audit.stages.synthesize import SynthesizeStage
from side_jax.audit.stages.target import TargetStage

STAGES: list[Stage] = [
    TargetStage(),
    SynthesizeStage(),
    SanityStage(),
    LabelStage(),
    DistillStage(),
    ExtractStage(),
    RecallStage(),
    DetectStage(),
    SteerStage(),
    ReportStage(),
]
