"""One job: how it goes, what it learns, where its steps' time goes, rank by rank."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.dashboards.parts import BLUE, GREEN, RED, YELLOW, board, choice, event, limits, lines, number, states

OF = 'namespace="$namespace", job="$job"'
RANK = "rank {{rank}}"


def job() -> Dashboard:
    """The dashboard."""
    good = limits((None, RED), (0.6, YELLOW), (0.85, GREEN))
    return board(
        "trainwright-job",
        "Trainwright / Job",
        "One training job: how it goes, what it learns, where the time of its steps goes, rank by rank.",
        [
            choice("namespace", "Namespace", "label_values(trainwright_job_phase, namespace)", several=False),
            choice("job", "Job", 'label_values(trainwright_job_phase{namespace="$namespace"}, job)', several=False),
        ],
        {
            "How it goes": [
                number("Progress", "Steps done of all.", f"trainwright_job_progress_ratio{{{OF}}}", unit="percentunit"),
                number(
                    "Time left", "Estimated from the last steps' speed.", f"trainwright_job_remaining_seconds{{{OF}}}", unit="s"
                ),
                number(
                    "Goodput",
                    "Productive share of the job's time: not waiting, not starting, not training again what a failure cost.",
                    f"trainwright_job_goodput_ratio{{{OF}}}",
                    unit="percentunit",
                    colours=good,
                ),
                number(
                    "Restarts",
                    "Times that the gang was started anew, whatever the cause.",
                    f"sum(trainwright_job_restarts_total{{{OF}}}) or vector(0)",
                    colours=limits((None, GREEN), (1, YELLOW), (3, RED)),
                ),
                number(
                    "Checkpoint age",
                    "What a failure now would cost.",
                    f"time() - trainwright_job_checkpoint_timestamp_seconds{{{OF}}}",
                    unit="s",
                    colours=limits((None, GREEN), (1800, YELLOW), (3600, RED)),
                ),
                number(
                    "GPU hours",
                    "Hours of GPUs that the gang has held.",
                    f"trainwright_job_gpu_seconds_total{{{OF}}} / 3600",
                    decimals=2,
                    colours=limits((None, BLUE)),
                ),
                states("Phases", "Which phase the job was in.", f"trainwright_job_phase{{{OF}}}", "{{phase}}"),
                lines(
                    "Where the time went",
                    "Seconds in all, by what they were spent on. Lost: trained again after a failure, and restarting.",
                    (f"trainwright_job_spent_seconds{{{OF}}}", "{{state}}"),
                    unit="s",
                    stacked=True,
                    width=12,
                ),
                lines(
                    "Steps done",
                    "A fall is a failure: the gang went on from the checkpoint before it.",
                    (f"trainwright_job_step{{{OF}}}", "step"),
                    (f"trainwright_job_checkpoint_step{{{OF}}}", "newest checkpoint"),
                    width=12,
                ),
            ],
            "What it learns": [
                lines(
                    "Training loss",
                    "Latest loss by rank; with a loss over the global batch they lie upon each other.",
                    (f"trainwright_loss{{{OF}}}", RANK),
                    log=True,
                ),
                lines(
                    "Metrics",
                    "What the training reports beside its loss, such as val_accuracy.",
                    (f'trainwright_job_metric{{{OF}, name!~"loss|learning_rate|gradient_norm"}}', "{{name}}"),
                ),
                lines(
                    "Learning rate and gradient norm",
                    "A norm that grows for long is a training that diverges.",
                    (f"max(trainwright_learning_rate{{{OF}}})", "learning rate"),
                    (f"max(trainwright_gradient_norm{{{OF}}})", "gradient norm"),
                    log=True,
                ),
            ],
            "How fast": [
                lines(
                    "Throughput",
                    "Samples that the whole gang trains on in a second.",
                    (f"max(rate(trainwright_samples_total{{{OF}}}[$__rate_interval]))", "samples a second"),
                ),
                lines(
                    "Step time",
                    "Time from one step to the next over all ranks: median and slowest hundredth.",
                    (f"job:trainwright_step_seconds:p50{{{OF}}}", "median"),
                    (f"job:trainwright_step_seconds:p99{{{OF}}}", "p99"),
                    unit="s",
                ),
                lines(
                    "Where a step's time goes",
                    "Shares of the steps' time over all ranks. Computing includes the exchange of gradients.",
                    (
                        f"sum(rate(trainwright_data_wait_seconds_total{{{OF}}}[$__rate_interval]))"
                        f" / sum(rate(trainwright_step_seconds_sum{{{OF}}}[$__rate_interval]))",
                        "waiting for data",
                    ),
                    (
                        f"sum(rate(trainwright_checkpoint_blocked_seconds_total{{{OF}}}[$__rate_interval]))"
                        f" / sum(rate(trainwright_step_seconds_sum{{{OF}}}[$__rate_interval]))",
                        "blocked by checkpoints",
                    ),
                    (
                        f"sum(rate(trainwright_compute_seconds_total{{{OF}}}[$__rate_interval]))"
                        f" / sum(rate(trainwright_step_seconds_sum{{{OF}}}[$__rate_interval]))",
                        "computing",
                    ),
                    unit="percentunit",
                    stacked=True,
                    highest=1,
                ),
                lines(
                    "Step time by rank",
                    "Mean time of a step. Ranks that exchange gradients all take as long as their slowest does.",
                    (f"rank:trainwright_step_seconds:mean{{{OF}}}", RANK),
                    unit="s",
                ),
                lines(
                    "A rank's own time of a step",
                    "What a rank needs without waiting for others (torch with DDP). One above the others slows all down.",
                    (f"trainwright_own_step_seconds{{{OF}}}", RANK),
                    unit="s",
                ),
                lines(
                    "Waiting for data by rank",
                    "Share of a rank's time.",
                    (f"sum by (worker, rank) (rate(trainwright_data_wait_seconds_total{{{OF}}}[$__rate_interval]))", RANK),
                    unit="percentunit",
                    at=(0.3, YELLOW),
                ),
                lines(
                    "Silence by rank",
                    "Time since a rank last reported. One that grows alone is a rank that hangs.",
                    (f"time() - max by (worker, rank) (trainwright_heartbeat_timestamp_seconds{{{OF}}})", RANK),
                    unit="s",
                    at=(60, RED),
                ),
                lines(
                    "Start",
                    "Where the time from the start of the process to its first step went, slowest rank, latest attempt.",
                    (f"max by (part) (trainwright_startup_seconds{{{OF}}})", "{{part}}"),
                    unit="s",
                    stacked=True,
                ),
                lines(
                    "Losses that are not finite",
                    "Times that a loss was NaN or infinite when it was read. Above zero the training learns nothing any more.",
                    (f"trainwright_losses_not_finite_total{{{OF}}}", RANK),
                    at=(1, RED),
                ),
            ],
            "Checkpoints": [
                lines(
                    "Blocked by a checkpoint",
                    "Seconds that training stood still for each checkpoint.",
                    (
                        f"sum(rate(trainwright_checkpoint_blocked_seconds_total{{{OF}}}[5m]))"
                        f" / (sum(rate(trainwright_checkpoints_total{{{OF}}}[5m])) > 0)",
                        "blocked",
                    ),
                    (
                        f"sum(rate(trainwright_checkpoint_write_seconds_total{{{OF}}}[5m]))"
                        f" / (sum(rate(trainwright_checkpoints_total{{{OF}}}[5m])) > 0)",
                        "written beside training",
                    ),
                    unit="s",
                ),
                lines(
                    "Size",
                    "Bytes of a checkpoint.",
                    (
                        f"sum(rate(trainwright_checkpoint_written_bytes_total{{{OF}}}[5m]))"
                        f" / (sum(rate(trainwright_checkpoints_total{{{OF}}}[5m])) > 0)",
                        "bytes",
                    ),
                    unit="bytes",
                ),
                lines(
                    "Failures",
                    "Checkpoints that could not be written; those before them are intact.",
                    (f"sum(trainwright_checkpoint_failures_total{{{OF}}})", "failures"),
                    at=(1, RED),
                ),
            ],
            "GPUs": [
                lines(
                    "Utilization",
                    "Share of time in which a GPU was busy, by NVML. A GPU that waits for others is busy too.",
                    (f"trainwright_gpu_utilization_ratio{{{OF}}}", "worker {{worker}}, GPU {{gpu}}"),
                    unit="percentunit",
                    highest=1,
                    width=12,
                ),
                lines(
                    "Memory",
                    "Share of a GPU's memory in use.",
                    (
                        f"trainwright_gpu_memory_used_bytes{{{OF}}} / trainwright_gpu_memory_bytes{{{OF}}}",
                        "worker {{worker}}, GPU {{gpu}}",
                    ),
                    unit="percentunit",
                    highest=1,
                    width=12,
                ),
            ],
        },
        since="now-1h",
        annotations=[event("restart", f"changes(trainwright_job_attempt{{{OF}}}[1m]) > 0")],
    )
