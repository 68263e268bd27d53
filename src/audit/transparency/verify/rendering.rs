//! An export that is made for reading, written once more from the events of the log, as its manifest says that it was.

use crate::audit::AuditQuery;
use crate::audit::export::manifest::Manifest;
use crate::audit::export::{ExportError, ExportFormat, Part, write};
use crate::audit::selection::Selection;
use crate::event_store::StoredEvent;
use grantlog_projections::values::Timestamp;

/// How an export was written.
pub(super) struct Rendering {
    format: ExportFormat,
    selection: Selection,
}

impl Rendering {
    /// As the manifest says; or why that is not known.
    pub fn of(manifest: &Manifest) -> Result<Self, String> {
        let format = manifest
            .format
            .parse()
            .map_err(|()| format!("its manifest names the format {}, which is not known", manifest.format))?;
        // A time that is counted back from now is in no export's conditions.
        let query = AuditQuery::from_parameters(&manifest.filter, Timestamp::from_unix_micros(0))
            .map_err(|error| format!("the filter in its manifest cannot be read: {error}"))?;
        let selection = Selection::of(query);
        match selection.is_fixed() {
            true => Ok(Self { format, selection }),
            false => Err("the filter in its manifest chooses other events each time".into()),
        }
    }

    /// What comes before the first event.
    pub fn head(&self) -> Vec<u8> {
        self.format.head()
    }

    /// What an event is written as: nothing, when it is not taken.
    pub fn event(&self, stored: &StoredEvent) -> Result<Part, ExportError> {
        write(
            Part::default(),
            std::slice::from_ref(stored),
            self.format,
            &self.selection,
        )
    }
}
