"""Pictures, after scikit-learn's displays: a class takes plain data, ``from_...`` takes what you have.

``plot(ax=None)`` draws and returns the display; artists are attributes that end in an underscore, to be
changed afterwards. matplotlib (``pip install 'cvxnn[plot]'``) is imported when something is drawn.

Reference: scikit-learn's user guide, "Visualizations".
"""

from .arrangement import ArrangementDisplay
from .convergence import ConvergenceDisplay
from .decision import DecisionDisplay
from .neurons import NeuronDisplay
from .regularization_path import PathDisplay

__all__ = ["ArrangementDisplay", "ConvergenceDisplay", "DecisionDisplay", "NeuronDisplay", "PathDisplay"]
