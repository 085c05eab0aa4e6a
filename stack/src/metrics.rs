//! The stack's counters, told to whatever recorder the program has installed with the `metrics` crate.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use wirepath_trace::Registry;

use crate::{DeviceStatus, StackStatus};

/// Says what each metric is, once a recorder is installed. Units are in the names, as Prometheus has it.
pub(crate) fn describe() {
    describe_counter!("wirepath_rx_packet_received", Unit::Count, "packets a device handed up");
    describe_counter!("wirepath_rx_byte_received", Unit::Bytes, "bytes a device handed up");
    describe_counter!("wirepath_tx_datagram_sent", Unit::Count, "datagrams given to the kernel or a ring");
    describe_counter!("wirepath_tx_byte_sent", Unit::Bytes, "payload bytes given to the kernel or a ring");
    describe_counter!("wirepath_tx_kick_made", Unit::Count, "system calls made to send");
    describe_counter!("wirepath_packet_dropped", Unit::Count, "packets that went nowhere, by cause");
    describe_counter!("wirepath_message_handled", Unit::Count, "messages actors of a kind have handled");
    describe_counter!("wirepath_actor_failed", Unit::Count, "actors of a kind that failed or were killed");
    describe_gauge!("wirepath_actor_live", Unit::Count, "actors of a kind alive");
    describe_gauge!("wirepath_local_cid_active", Unit::Count, "connection IDs that lead to a connection");
    describe_gauge!("wirepath_xdp_active", Unit::Count, "1 while packets take AF_XDP, else 0");
}

/// Sets each metric to what the counters say now.
pub(crate) fn publish(status: &StackStatus, registry: &Registry) {
    for DeviceStatus { status, stats } in &status.devices {
        let labels = [
            ("path", status.path.to_string()),
            ("interface", status.interface.clone().unwrap_or_default()),
            ("queue", status.queue.map(|queue| queue.to_string()).unwrap_or_default()),
        ];
        counter!("wirepath_rx_packet_received", &labels).absolute(stats.rx_packet_received);
        counter!("wirepath_rx_byte_received", &labels).absolute(stats.rx_byte_received);
        counter!("wirepath_tx_datagram_sent", &labels).absolute(stats.tx_datagram_sent);
        counter!("wirepath_tx_byte_sent", &labels).absolute(stats.tx_byte_sent);
        counter!("wirepath_tx_kick_made", &labels).absolute(stats.tx_kick_made);
    }
    for (cause, count) in status.all_drops() {
        counter!("wirepath_packet_dropped", "cause" => cause).absolute(count);
    }
    for kind in registry.kinds() {
        counter!("wirepath_message_handled", "kind" => kind.name).absolute(kind.run.count());
        counter!("wirepath_actor_failed", "kind" => kind.name).absolute(kind.actor_failed);
        gauge!("wirepath_actor_live", "kind" => kind.name)
            .set((kind.actor_spawned - kind.actor_stopped) as f64);
    }
    gauge!("wirepath_local_cid_active").set(status.cids as f64);
    gauge!("wirepath_xdp_active").set(f64::from(u8::from(status.is_xdp())));
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{Arc, Mutex},
    };

    use metrics::{
        Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString,
    };

    use super::*;

    /// Remembers the last value of each metric, by name and labels.
    #[derive(Clone, Default)]
    struct Remember(Arc<Mutex<BTreeMap<String, f64>>>);

    struct Entry(Remember, String);

    impl Entry {
        fn of(remember: &Remember, key: &Key) -> Arc<Self> {
            let labels: Vec<_> =
                key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            Arc::new(Self(remember.clone(), format!("{}{{{}}}", key.name(), labels.join(","))))
        }

        fn put(&self, value: f64) {
            self.0.0.lock().expect("no test panics here").insert(self.1.clone(), value);
        }
    }

    impl CounterFn for Entry {
        fn increment(&self, _value: u64) {}
        fn absolute(&self, value: u64) {
            self.put(value as f64);
        }
    }

    impl GaugeFn for Entry {
        fn increment(&self, _value: f64) {}
        fn decrement(&self, _value: f64) {}
        fn set(&self, value: f64) {
            self.put(value);
        }
    }

    impl Recorder for Remember {
        fn describe_counter(&self, _key: KeyName, _unit: Option<Unit>, _text: SharedString) {}
        fn describe_gauge(&self, _key: KeyName, _unit: Option<Unit>, _text: SharedString) {}
        fn describe_histogram(&self, _key: KeyName, _unit: Option<Unit>, _text: SharedString) {}
        fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
            Counter::from_arc(Entry::of(self, key))
        }
        fn register_gauge(&self, key: &Key, _metadata: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(Entry::of(self, key))
        }
        fn register_histogram(&self, _key: &Key, _metadata: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn drops_actors_and_cids_reach_the_recorder() {
        let registry = Registry::default();
        let actor = registry.enter("demux", &["packets"], "0".into(), None);
        let status =
            StackStatus { drops: [("ip_truncated_dropped", 3)].into(), cids: 2, ..StackStatus::default() };
        let remember = Remember::default();
        metrics::with_local_recorder(&remember, || {
            describe();
            publish(&status, &registry);
            registry.leave(actor.id, Some("it was killed".into()));
            publish(&status, &registry);
        });
        let seen = remember.0.lock().expect("no test panics here");
        assert_eq!(seen["wirepath_packet_dropped{cause=ip_truncated_dropped}"], 3.0);
        assert_eq!(seen["wirepath_actor_live{kind=demux}"], 0.0);
        assert_eq!(seen["wirepath_actor_failed{kind=demux}"], 1.0);
        assert_eq!(seen["wirepath_local_cid_active{}"], 2.0);
        assert_eq!(seen["wirepath_xdp_active{}"], 0.0);
    }
}
