//! What a plugin uses: processor, memory, tasks, descriptors, and what goes over its channel and its routes.
//!
//! Measured from the processes below the plugin's launcher, and from what the host itself counts. What cannot be read is
//! unknown, never 0. It knows nothing of who wants to know: the actor shows it, records it and counts it.

mod processes;

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use temps_sandbox::Limits;

use crate::metrics::Metrics;

pub(crate) use processes::{Resources, measure};

/// From which share of a limit on a plugin is said to be near it, in percent: there is still time to do something.
const NEAR_PERCENT: u64 = 90;

/// What a plugin used in the time before `at`.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// When it was measured.
    pub at: DateTime<Utc>,
    /// The time that the sums below are about: since the measurement before, or since the start.
    pub over: Duration,
    /// Processor time that was used, of all its processes together; `None` when it is not known.
    pub cpu: Option<Duration>,
    /// Bytes of memory in use at `at`; shared memory counts by its share.
    pub memory_bytes: Option<u64>,
    /// Processes at `at`.
    pub processes: Option<u32>,
    /// Tasks (processes and threads) at `at`.
    pub tasks: Option<u32>,
    /// Open descriptors at `at`.
    pub descriptors: Option<u32>,
    /// Open descriptors of that one of its processes that has the most; the limit is for each process.
    pub most_descriptors: Option<u32>,
    /// Bytes that its data directory took at `at`.
    pub disk_bytes: Option<u64>,
    /// Limits of which it used 90 % or more, in words: `memory_max: 240 MiB of 256 MiB`.
    pub near_limits: Vec<String>,
    /// What went over its channel and its routes.
    pub traffic: Traffic,
}

/// What went over a plugin's channel and its routes in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Frames that the plugin sent over its channel.
    pub frames_in: u64,
    /// Frames that it was sent.
    pub frames_out: u64,
    /// Bytes of those that it sent.
    pub frame_bytes_in: u64,
    /// Bytes of those that it was sent.
    pub frame_bytes_out: u64,
    /// Requests to its routes.
    pub requests: u64,
    /// Bytes of bodies to the plugin.
    pub body_bytes_in: u64,
    /// Bytes of bodies from it.
    pub body_bytes_out: u64,
}

impl Usage {
    /// Processor time in percent of one processor.
    #[must_use]
    pub fn cpu_percent(&self) -> Option<f64> {
        let over = self.over.as_secs_f64();
        self.cpu.filter(|_| over > 0.0).map(|cpu| (cpu.as_secs_f64() / over * 1000.0).round() / 10.0)
    }

    /// Notes the limits that it is near, before it meets them. What is not known is near nothing.
    #[must_use]
    pub(crate) fn near(mut self, limits: &Limits) -> Self {
        let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
        let plain = |count: u64| count.to_string();
        let percent = |share: u64| format!("{share} %");
        let cpu = self.cpu_percent().map(|percent| percent as u64);
        let all: [(&str, Option<u64>, u64, &dyn Fn(u64) -> String); 5] = [
            ("memory_max", self.memory_bytes, limits.memory_max, &mib),
            ("cpu_quota", cpu, limits.cpu_quota.into(), &percent),
            ("tasks_max", self.tasks.map(u64::from), limits.tasks_max, &plain),
            ("nofile", self.most_descriptors.map(u64::from), limits.nofile, &plain),
            ("disk_max", self.disk_bytes, limits.disk_max, &mib),
        ];
        let near = |used: Option<u64>, limit: u64| {
            used.filter(|used| used.saturating_mul(100) >= limit.saturating_mul(NEAR_PERCENT))
        };
        let words = all.into_iter().filter_map(|(name, used, limit, show)| {
            Some(format!("{name}: {} of {}", show(near(used, limit)?), show(limit)))
        });
        self.near_limits = words.collect();
        self
    }

    /// As it stands in the audit trail.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "over_ms": self.over.as_millis() as u64,
            "cpu_ms": self.cpu.map(|cpu| cpu.as_millis() as u64),
            "memory_bytes": self.memory_bytes,
            "processes": self.processes,
            "tasks": self.tasks,
            "descriptors": self.descriptors,
            "disk_bytes": self.disk_bytes,
            "near_limits": self.near_limits,
            "channel": {
                "frames_in": self.traffic.frames_in,
                "frames_out": self.traffic.frames_out,
                "bytes_in": self.traffic.frame_bytes_in,
                "bytes_out": self.traffic.frame_bytes_out,
            },
            "routes": {
                "requests": self.traffic.requests,
                "bytes_in": self.traffic.body_bytes_in,
                "bytes_out": self.traffic.body_bytes_out,
            },
        })
    }
}

/// Where the counters of a plugin stood at one moment.
#[derive(Debug, Clone, Copy)]
struct Mark {
    at: Instant,
    cpu: Option<Duration>,
    traffic: Traffic,
}

/// Turns counters that only grow into what was used from one measurement to the next.
#[derive(Debug)]
pub(crate) struct Meter {
    last: Mark,
}

impl Meter {
    /// Begins now, at a plugin that was just started and so has used nothing before.
    pub(crate) fn begin(at: Instant, traffic: Traffic) -> Self {
        Self { last: Mark { at, cpu: Some(Duration::ZERO), traffic } }
    }

    /// What was used since the measurement before.
    pub(crate) fn read(
        &mut self,
        now: Instant,
        wall: DateTime<Utc>,
        resources: Resources,
        traffic: Traffic,
    ) -> Usage {
        let before = std::mem::replace(&mut self.last, Mark { at: now, cpu: resources.cpu, traffic });
        Usage {
            at: wall,
            over: now.saturating_duration_since(before.at),
            // A child that ended without being waited for takes its time with it: then it is not known.
            cpu: resources.cpu.zip(before.cpu).and_then(|(now, before)| now.checked_sub(before)),
            memory_bytes: resources.memory_bytes,
            processes: resources.processes,
            tasks: resources.tasks,
            descriptors: resources.descriptors,
            most_descriptors: resources.most_descriptors,
            disk_bytes: resources.disk_bytes,
            near_limits: Vec::new(),
            traffic: traffic.since(&before.traffic),
        }
    }
}

impl Traffic {
    /// What the host has counted of a plugin since the host started.
    pub(crate) fn counted(metrics: &Metrics, plugin: &str) -> Self {
        let frames = |kind| metrics.channel_frames.get_or_create_owned(&Metrics::of_and(plugin, kind)).get();
        let frame_bytes =
            |kind| metrics.channel_bytes.get_or_create_owned(&Metrics::of_and(plugin, kind)).get();
        let answers = |kind| metrics.proxy_requests.get_or_create_owned(&Metrics::of_and(plugin, kind)).get();
        let bodies = |kind| metrics.proxy_bytes.get_or_create_owned(&Metrics::of_and(plugin, kind)).get();
        Self {
            frames_in: frames("in"),
            frames_out: frames("out"),
            frame_bytes_in: frame_bytes("in"),
            frame_bytes_out: frame_bytes("out"),
            requests: ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().map(answers).sum(),
            body_bytes_in: bodies("in"),
            body_bytes_out: bodies("out"),
        }
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            frames_in: self.frames_in.saturating_sub(before.frames_in),
            frames_out: self.frames_out.saturating_sub(before.frames_out),
            frame_bytes_in: self.frame_bytes_in.saturating_sub(before.frame_bytes_in),
            frame_bytes_out: self.frame_bytes_out.saturating_sub(before.frame_bytes_out),
            requests: self.requests.saturating_sub(before.requests),
            body_bytes_in: self.body_bytes_in.saturating_sub(before.body_bytes_in),
            body_bytes_out: self.body_bytes_out.saturating_sub(before.body_bytes_out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(cpu_ms: Option<u64>) -> Resources {
        Resources { cpu: cpu_ms.map(Duration::from_millis), memory_bytes: None, ..Resources::default() }
    }

    #[test]
    fn a_measurement_is_about_the_time_since_the_one_before() {
        let begin = Instant::now();
        let mut meter = Meter::begin(begin, Traffic { frames_in: 5, ..Traffic::default() });
        let after = |seconds| begin + Duration::from_secs(seconds);
        let traffic = Traffic { frames_in: 9, requests: 2, ..Traffic::default() };
        let first = meter.read(after(30), Utc::now(), resources(Some(3_000)), traffic);
        assert_eq!(
            (first.cpu_percent(), first.traffic.frames_in, first.traffic.requests),
            (Some(10.0), 4, 2)
        );
        let second = meter.read(after(40), Utc::now(), resources(Some(3_500)), traffic);
        assert_eq!((second.cpu_percent(), second.traffic), (Some(5.0), Traffic::default()));
        assert_eq!(second.over, Duration::from_secs(10));
    }

    #[test]
    fn a_plugin_near_a_limit_is_shown_before_it_meets_it_and_the_unknown_is_near_nothing() {
        let begin = Instant::now();
        let mut meter = Meter::begin(begin, Traffic::default());
        let limits = Limits::default();
        let found = Resources {
            cpu: Some(Duration::from_secs(2)),
            memory_bytes: Some(limits.memory_max / 100 * 95),
            tasks: Some(10),
            ..Resources::default()
        };
        let usage =
            meter.read(begin + Duration::from_secs(8), Utc::now(), found, Traffic::default()).near(&limits);
        assert_eq!(usage.near_limits, ["memory_max: 243 MiB of 256 MiB", "cpu_quota: 25 % of 25 %"]);
    }

    #[test]
    fn what_is_not_known_is_unknown_and_never_0() {
        let begin = Instant::now();
        let mut meter = Meter::begin(begin, Traffic::default());
        let later = begin + Duration::from_secs(30);
        let blind = meter.read(later, Utc::now(), resources(None), Traffic::default());
        assert_eq!((blind.cpu, blind.cpu_percent(), blind.memory_bytes), (None, None, None));
        assert!(blind.to_json()["cpu_ms"].is_null() && blind.to_json()["memory_bytes"].is_null());
        let after_blind = meter.read(later, Utc::now(), resources(Some(10)), Traffic::default());
        assert_eq!(after_blind.cpu, None, "without a beginning there is no difference");
        let went_back = meter.read(later, Utc::now(), resources(Some(5)), Traffic::default());
        assert_eq!(went_back.cpu, None);
    }
}
