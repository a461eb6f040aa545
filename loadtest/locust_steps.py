"""A shape for locust: more users step by step, until the last step is over.

    locust -f loadtest/locustfile.py,loadtest/locust_steps.py --host http://127.0.0.1:8000 --headless --html runs/locust.html

`--steps 1,2,4,8,16`: users of each; `--step-s 20`: seconds of each. The page shows throughput and percentiles against time.
"""

from locust import LoadTestShape, events


@events.init_command_line_parser.add_listener
def _arguments(parser, **_):
    parser.add_argument("--steps", default="1,2,4,8,16", help="users of each step, by comma")
    parser.add_argument("--step-s", type=float, default=20, help="seconds of each step")


class Steps(LoadTestShape):
    """Users and how many may start a second, of the time since the start; None ends the test."""

    def tick(self):
        options = self.runner.environment.parsed_options
        steps = [int(users) for users in options.steps.split(",")]
        step = int(self.get_run_time() // options.step_s)
        return (steps[step], max(steps)) if step < len(steps) else None
