"""A self-improving search for a good scikit-learn pipeline: real work, no model, no key."""

import os

# Agents fit pipelines beside each other, so each fit keeps to one core. Must be set before scikit-learn is imported.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
