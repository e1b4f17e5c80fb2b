//! Agents of both kinds, as far as the wire shows them.

use serde_json::{Value, json};

use super::plane::Plane;

/// An agent of the Go project: it grades its own checks and knows no field from 50 up.
#[derive(Debug, Clone, Copy)]
pub struct GoAgent<'a>(pub &'a str);

impl GoAgent<'_> {
    pub fn registration(self) -> Value {
        json!({
            "nodeId": self.0,
            "provider": "lambda",
            "region": "us-west-2",
            "zone": "us-west-2a",
            "instanceType": "gpu_8x_h100_sxm5",
            "gpus": [{
                "index": 0,
                "uuid": format!("GPU-8f3c1d2e-0000-0000-0000-{:0>12}", self.0.len()),
                "name": "NVIDIA H100 80GB HBM3",
                "pciBusId": "00000000:00:00.0",
                "memoryTotal": "85899345920",
            }],
            "metadata": {"hostname": format!("host-{}", self.0), "labels": {"pool": "research"}},
        })
    }

    pub async fn register(self, plane: &Plane) {
        plane.ok("RegisterNode", self.registration()).await;
    }

    pub async fn beat(self, plane: &Plane) {
        plane.ok("SendHeartbeat", json!({"nodeId": self.0})).await;
    }

    pub fn graded(self, status: &str) -> Value {
        json!({
            "nodeId": self.0,
            "results": [
                {"checkName": "boot", "status": "HEALTH_STATUS_HEALTHY"},
                {"checkName": "gpu", "status": format!("HEALTH_STATUS_{status}"), "message": "as ordered"},
            ],
        })
    }

    /// Reports a grade; answers the status that the control plane says.
    pub async fn report(self, plane: &Plane, status: &str) -> String {
        said(&plane.ok("ReportHealth", self.graded(status)).await)
    }
}

/// An agent of ours: raw facts, full reports, boot, session and sequence.
#[derive(Debug, Clone)]
pub struct Agent {
    pub node: String,
    pub machine: String,
    pub boot: String,
    pub session: String,
    pub sequence: u64,
}

impl Agent {
    pub fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            machine: format!("machine-of-{node}"),
            boot: "boot-1".to_owned(),
            session: "session-1".to_owned(),
            sequence: 0,
        }
    }

    pub fn registration(&self) -> Value {
        json!({
            "nodeId": self.node,
            "provider": "fake",
            "region": "local",
            "gpus": [{"index": 0, "uuid": format!("GPU-fake-{}-0", self.machine)}],
            "metadata": {"hostname": format!("host-of-{}", self.machine)},
            "machineId": self.machine,
            "bootId": self.boot,
            "sessionId": self.session,
            "agentVersion": "0.1.0",
            "capabilities": ["full_reports", "command_results", "command_push"],
        })
    }

    pub async fn register(&self, plane: &Plane) {
        plane.ok("RegisterNode", self.registration()).await;
    }

    pub fn heartbeat(&self) -> Value {
        json!({"nodeId": self.node, "bootId": self.boot, "sessionId": self.session})
    }

    pub async fn beat(&self, plane: &Plane) {
        plane.ok("SendHeartbeat", self.heartbeat()).await;
    }

    /// A full report with this temperature on GPU 0.
    pub fn full(&mut self, celsius: u32) -> Value {
        self.sequence += 1;
        let temperature = if celsius < 85 {
            json!({"watch": "temperature", "gpuIndex": 0,
                   "metrics": {"temperature": celsius.to_string()}})
        } else {
            json!({"watch": "temperature", "gpuIndex": 0,
                   "system": "HEALTH_WATCH_SYSTEM_THERMAL", "eventType": "HEALTH_EVENT_TYPE_THERMAL",
                   "metrics": {"temperature": celsius.to_string()}})
        };
        json!({
            "nodeId": self.node,
            "bootId": self.boot,
            "sessionId": self.session,
            "sequence": self.sequence.to_string(),
            "full": true,
            "events": [
                {"watch": "device_count", "gpuIndex": -1, "metrics": {"gpu_count": "1"}},
                temperature,
            ],
        })
    }

    /// Reports a grade by a temperature; answers the status that the control plane says.
    pub async fn report(&mut self, plane: &Plane, status: &str) -> String {
        let celsius = match status {
            "HEALTHY" => 45,
            "DEGRADED" => 88,
            "UNHEALTHY" => 97,
            other => panic!("no temperature means {other}"),
        };
        let request = self.full(celsius);
        said(&plane.ok("ReportHealth", request).await)
    }

    /// Registers, beats and passes the admission gate.
    pub async fn join(&mut self, plane: &Plane) {
        self.register(plane).await;
        self.beat(plane).await;
        assert_eq!(self.report(plane, "HEALTHY").await, "ACTIVE");
    }
}

fn said(answer: &Value) -> String {
    assert_eq!(answer["acknowledged"], true, "{answer}");
    let status = answer["nodeStatus"].as_str().expect("a status");
    status.trim_start_matches("NODE_STATUS_").to_owned()
}
