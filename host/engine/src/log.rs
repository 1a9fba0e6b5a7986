//! What guests write to the server's log.
//!
//! Contract: a call's lines are limited in number and each in length; what is left out is said once. They stand under
//! the model's name and version and what names the request.

use tracing::Level;
use vespid_types::Timeline;

use crate::plugin::PluginContext;

/// Lines that one call may log.
const MAX_LINES: u32 = 100;
/// Bytes of a line that are kept.
pub(crate) const MAX_LINE: usize = 4096;

/// How many lines a call has logged.
#[derive(Default)]
pub(crate) struct Lines(u32);

impl Lines {
    pub(crate) fn write(&mut self, context: &PluginContext, request: &Timeline, level: Level, message: &str) {
        self.0 = self.0.saturating_add(1);
        let message = match self.0 {
            ..MAX_LINES => message.get(..message.floor_char_boundary(MAX_LINE)).unwrap_or_default(),
            MAX_LINES => "further lines of this call are left out",
            _ => return,
        };
        let (model, version) = (&context.model, context.version);
        let request_id = request.name();
        macro_rules! line {
            ($level:ident) => {
                // Without the spans that the line may come out of: WASI's own functions are some.
                tracing::$level!(target: "plugin", parent: None, %model, %version, %request_id, "{message}")
            };
        }
        match level {
            Level::TRACE => line!(trace),
            Level::DEBUG => line!(debug),
            Level::INFO => line!(info),
            Level::WARN => line!(warn),
            Level::ERROR => line!(error),
        }
    }
}
