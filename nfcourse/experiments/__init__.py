"""Full-size runs: ``python -m nfcourse.experiments.NAME``, on one GPU, many, or none."""
