"""What runs inside a worker of a TrainingJob, whichever framework trains there.

Nothing here imports a framework: a launcher must be up in a tenth of a second, and a configuration must be refused before
seconds are spent on loading one. What needs PyTorch lives in `trainwright_runtime.torch`, for those who import it.
"""

from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.progress import report

__all__ = ["RankEnvironment", "report"]
