"""One room per paper, and the baselines that any of them must beat; importing it registers all."""

from wsis.methods import bana as _bana  # noqa: F401  # registration
from wsis.methods import bas as _bas  # noqa: F401  # registration
from wsis.methods import baselines as _baselines  # noqa: F401  # registration
from wsis.methods import bbam as _bbam  # noqa: F401  # registration
from wsis.methods import boxcaseg as _boxcaseg  # noqa: F401  # registration
from wsis.methods import cam as _cam  # noqa: F401  # registration
from wsis.methods import external as _external  # noqa: F401  # registration
from wsis.methods import fusion as _fusion  # noqa: F401  # registration
from wsis.methods import icam as _icam  # noqa: F401  # registration
from wsis.methods import irn as _irn  # noqa: F401  # registration
from wsis.methods import sam as _sam  # noqa: F401  # registration
from wsis.methods import student_teacher as _student_teacher  # noqa: F401  # registration
