"""The sections of the report, in order. A new one is a file here, and a line in `SECTIONS`."""

from side_jax.report.section import Section
from side_jax.report.sections.at_risk import SECTION as AT_RISK
from side_jax.report.sections.audited import SECTION as AUDITED
from side_jax.report.sections.calibration import SECTION as CALIBRATION
from side_jax.report.sections.detect import SECTION as DETECT
from side_jax.report.sections.duplicates import SECTION as DUPLICATES
from side_jax.report.sections.forecast import SECTION as FORECAST
from side_jax.report.sections.guide import SECTION as GUIDE
from side_jax.report.sections.histograms import SECTION as HISTOGRAMS
from side_jax.report.sections.marks import SECTION as MARKS
from side_jax.report.sections.methods import SECTION as METHODS
from side_jax.report.sections.other import SECTION as OTHER
from side_jax.report.sections.quality import SECTION as QUALITY
from side_jax.report.sections.recall import SECTION as RECALL
from side_jax.report.sections.recipes import SECTION as RECIPES
from side_jax.report.sections.samples import SECTION as SAMPLES
from side_jax.report.sections.sanity import SECTION as SANITY
from side_jax.report.sections.scores import SECTION as SCORES
from side_jax.report.sections.sheets import SECTION as SHEETS
from side_jax.report.sections.steer import SECTION as STEER
from side_jax.report.sections.table1 import SECTION as TABLE1
from side_jax.report.sections.trust import SECTION as TRUST

SECTIONS: list[Section] = [
    AUDITED,
    SANITY,
    RECIPES,
    SCORES,
    CALIBRATION,
    SAMPLES,
    RECALL,
    AT_RISK,
    DUPLICATES,
    FORECAST,
    TABLE1,
    METHODS,
    QUALITY,
    HISTOGRAMS,
    OTHER,
    GUIDE,
    DETECT,
    STEER,
    MARKS,
    SHEETS,
    TRUST,
]
