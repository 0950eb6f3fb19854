"""All jobs: who has the GPUs, who waits, what comes of the time, what it costs."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.dashboards.parts import BLUE, GREEN, RED, YELLOW, board, choice, limits, lines, number, rows

OF = 'namespace=~"$namespace"'
HOLDING = 'phase=~"Starting|Running"'
WAITING = 'phase="Queued"'
JOB_LINK = "/d/trainwright-job?var-namespace=${__data.fields.namespace}&var-job=${__data.fields.job}&${__url_time_range}"


def _gpus(phases: str) -> str:
    return f"sum(trainwright_job_gpus{{{OF}}} * on (namespace, job) trainwright_job_phase{{{OF}, {phases}}}) or vector(0)"


def _while(phases: str, what: str) -> str:
    """A value of each job that is in one of these phases."""
    return f"{what} * on (namespace, job) group_left () trainwright_job_phase{{{OF}, {phases}}}"


def fleet() -> Dashboard:
    """The dashboard."""
    spent = "sum(trainwright_job_spent_seconds"
    goodput = f'{spent}{{{OF}, state="productive"}}) / {spent}{{{OF}, state!="suspended"}})'
    waited = f"(time() - trainwright_job_phase_start_timestamp_seconds{{{OF}}})"
    good = limits((None, RED), (0.6, YELLOW), (0.85, GREEN))
    return board(
        "trainwright-fleet",
        "Trainwright / Fleet",
        "All training jobs: who has the GPUs, who waits, what comes of the time and what it costs.",
        [choice("namespace", "Namespace", "label_values(trainwright_job_phase, namespace)", several=True)],
        {
            "Now": [
                number("GPUs in use", "GPUs of jobs that start or run.", _gpus(HOLDING)),
                number(
                    "GPUs waited for",
                    "GPUs of jobs in the queue.",
                    _gpus(WAITING),
                    colours=limits((None, BLUE), (1, YELLOW)),
                ),
                number(
                    "Jobs running",
                    "Jobs whose workers all run.",
                    f'sum(trainwright_job_phase{{{OF}, phase="Running"}}) or vector(0)',
                ),
                number(
                    "Jobs waiting",
                    "Jobs that wait for room.",
                    f'sum(trainwright_job_phase{{{OF}, phase="Queued"}}) or vector(0)',
                    colours=limits((None, BLUE), (1, YELLOW)),
                ),
                number(
                    "Goodput",
                    "Productive share of all jobs' time: not waiting, not starting, not training again what a failure cost.",
                    goodput,
                    unit="percentunit",
                    colours=good,
                ),
                number(
                    "Jobs failed",
                    "Jobs that ended without success, of those that are still there.",
                    f'sum(trainwright_job_phase{{{OF}, phase="Failed"}}) or vector(0)',
                    colours=limits((None, GREEN), (1, RED)),
                ),
            ],
            "Jobs and GPUs": [
                lines(
                    "Jobs by phase",
                    "How many jobs are in each phase.",
                    (f"sum by (phase) (trainwright_job_phase{{{OF}}})", "{{phase}}"),
                    stacked=True,
                ),
                lines(
                    "GPUs by phase",
                    "GPUs that jobs hold (Starting, Running) or ask for (Queued).",
                    (
                        f'sum by (phase) (namespace:trainwright_gpus:sum{{{OF}, phase!~"Succeeded|Failed|Suspended"}})',
                        "{{phase}}",
                    ),
                    stacked=True,
                ),
                lines(
                    "GPU utilization",
                    "How busy the GPUs of running jobs are, by NVML: mean, and the least busy.",
                    (f"avg(trainwright_gpu_utilization_ratio{{{OF}}})", "mean"),
                    (f"min(trainwright_gpu_utilization_ratio{{{OF}}})", "least"),
                    unit="percentunit",
                    highest=1,
                ),
            ],
            "Waiting": [
                lines(
                    "Longest wait now",
                    "How long the job at the head of each namespace's queue has been waiting.",
                    (
                        f"max by (namespace) ({_while(WAITING, waited)})",
                        "{{namespace}}",
                    ),
                    unit="s",
                    at=(1800, YELLOW),
                ),
                lines(
                    "From creation to running",
                    "How long jobs took until all their workers ran: median and the slowest tenth.",
                    (
                        "histogram_quantile(0.5, sum by (le) (rate(trainwright_job_start_seconds_bucket[$__range])))",
                        "median",
                    ),
                    (
                        "histogram_quantile(0.9, sum by (le) (rate(trainwright_job_start_seconds_bucket[$__range])))",
                        "p90",
                    ),
                    unit="s",
                ),
                rows(
                    "Queue",
                    "Jobs that wait, and for how many GPUs. `trainwright status JOB` says in one line what each waits for.",
                    [
                        ("waits", _while(WAITING, waited), "s"),
                        ("GPUs", _while(WAITING, f"trainwright_job_gpus{{{OF}}}"), "short"),
                    ],
                    by=["namespace", "job"],
                    link=JOB_LINK,
                    width=8,
                ),
            ],
            "Queue of capacity": [
                lines(
                    "Jobs in queues",
                    "Jobs of all namespaces that wait for admission, by the queue that they name.",
                    ("sum by (provider, queue) (trainwright_queued_jobs)", "{{provider}} {{queue}}"),
                    stacked=True,
                ),
                lines(
                    "From creation to admission",
                    "How long jobs waited until capacity let them in: median and the slowest tenth.",
                    (
                        "histogram_quantile(0.5, sum by (le) (rate(trainwright_job_admitted_seconds_bucket[$__range])))",
                        "median",
                    ),
                    (
                        "histogram_quantile(0.9, sum by (le) (rate(trainwright_job_admitted_seconds_bucket[$__range])))",
                        "p90",
                    ),
                    unit="s",
                ),
                lines(
                    "Admissions and preemptions",
                    "Jobs that were let in within an hour, and jobs that were told to make room for one of higher priority.",
                    ("sum(increase(trainwright_job_admitted_seconds_count[1h]))", "admitted"),
                    ("sum(increase(trainwright_preemptions_total[1h]))", "preempted"),
                ),
            ],
            "What comes of it": [
                lines(
                    "Goodput by namespace",
                    "Productive share of the time of all jobs of a namespace.",
                    (f"namespace:trainwright_goodput:ratio{{{OF}}}", "{{namespace}}"),
                    unit="percentunit",
                    highest=1,
                ),
                lines(
                    "Time lost, by namespace",
                    "Hours that were trained again after failures, and spent in restarts, of the jobs there are.",
                    (f'sum by (namespace) (trainwright_job_spent_seconds{{{OF}, state="lost"}})', "{{namespace}}"),
                    unit="s",
                    stacked=True,
                ),
                lines(
                    "Restarts by cause",
                    "Gangs that were started anew in the last hour, by what failed first.",
                    (f"sum by (cause) (increase(trainwright_job_restarts_total{{{OF}}}[1h]))", "{{cause}}"),
                    stacked=True,
                ),
                lines(
                    "Cost an hour, by namespace",
                    "What jobs cost by the operator's price table.",
                    (
                        f"sum by (namespace, currency) (rate(trainwright_job_cost_total{{{OF}}}[15m])) * 3600",
                        "{{namespace}} ({{currency}})",
                    ),
                    unit="short",
                    stacked=True,
                    width=12,
                ),
                lines(
                    "GPU hours an hour, by namespace",
                    "GPUs that were held, on average.",
                    (f"sum by (namespace) (rate(trainwright_job_gpu_seconds_total{{{OF}}}[15m]))", "{{namespace}}"),
                    stacked=True,
                    width=12,
                ),
            ],
            "Running": [
                rows(
                    "Jobs that start or run",
                    "A job's name leads to its own dashboard.",
                    [
                        ("progress", _while(HOLDING, f"trainwright_job_progress_ratio{{{OF}}}"), "percentunit"),
                        ("left", _while(HOLDING, f"trainwright_job_remaining_seconds{{{OF}}}"), "s"),
                        ("samples a second", _while(HOLDING, f"trainwright_job_samples_per_second{{{OF}}}"), "short"),
                        ("goodput", _while(HOLDING, f"trainwright_job_goodput_ratio{{{OF}}}"), "percentunit"),
                        ("attempt", _while(HOLDING, f"trainwright_job_attempt{{{OF}}}"), "short"),
                        ("GPUs", _while(HOLDING, f"trainwright_job_gpus{{{OF}}}"), "short"),
                        ("GPU seconds", _while(HOLDING, f"trainwright_job_gpu_seconds_total{{{OF}}}"), "s"),
                        (
                            "checkpoint age",
                            _while(HOLDING, f"(time() - trainwright_job_checkpoint_timestamp_seconds{{{OF}}})"),
                            "s",
                        ),
                    ],
                    by=["namespace", "job"],
                    link=JOB_LINK,
                )
            ],
        },
    )
