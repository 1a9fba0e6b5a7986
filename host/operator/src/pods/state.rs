//! What is so of pods, and what keeps them from being ready.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

/// Whether a pod answers, and is not on its way out.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready =
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// What keeps pods from being ready, of the first that says so.
pub(crate) fn why_not<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> Option<String> {
    pods.into_iter().filter(|pod| !is_ready(pod)).find_map(|pod| {
        let reason = unscheduled(pod).or_else(|| waiting(pod)).or_else(|| terminated(pod))?;
        Some(format!("pod {}: {reason}", pod.name_any()))
    })
}

fn unscheduled(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled =
        conditions.iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    scheduled?.message.clone()
}

fn waiting(pod: &Pod) -> Option<String> {
    let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting
        .reason
        .as_deref()
        .filter(|reason| *reason != "ContainerCreating" && *reason != "PodInitializing")?;
    // Why it was started again is what it said when it ended.
    let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let said = ended.and_then(|ended| ended.message.as_deref()).or(waiting.message.as_deref());
    Some(said.map_or_else(|| reason.to_owned(), |said| format!("{reason}: {}", last_line(said))))
}

fn terminated(pod: &Pod) -> Option<String> {
    let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let ended = container.state.as_ref()?.terminated.as_ref()?;
    let said = ended.message.as_deref().map(last_line).filter(|said| !said.is_empty());
    let reason = said.or(ended.reason.as_deref()).unwrap_or("no reason is given");
    Some(format!("it ended with {}: {reason}", ended.exit_code))
}

/// The line of a log in which the reason is.
fn last_line(text: &str) -> &str {
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default()
}
