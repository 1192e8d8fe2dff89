"""The benchmark: what aqueue adds to starting a shell, at any backlog. Run it with `python -m tests.bench`.

Each figure is taken with the default settings, durability included, on stores that are made for it and removed
afterwards. Where two things are compared they take turns on the same machine in the same run, and the figure is the
ratio of their medians. Nothing here is collected by pytest, and nothing here fails because a machine is slow.
"""
