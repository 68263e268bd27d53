//! Trusted Applications and APIs by name: what the token endpoint reads.
//!
//! Persistent maps: a clone is cheap, so that a reader keeps its snapshot without a lock while the next
//! state is being built.

use crate::api::Api;
use crate::event::Event;
use crate::recorded_event::RecordedEvent;
use crate::trusted_application::TrustedApplication;
use crate::values::{ApiId, ApplicationId, ApplicationUri, Audience};
use imbl::OrdMap;
use std::ops::Bound;
use std::sync::Arc;

/// All applications and APIs, the deleted ones too: their names are never given out again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Directory {
    applications: OrdMap<ApplicationId, Arc<TrustedApplication>>,
    applications_by_uri: OrdMap<ApplicationUri, ApplicationId>,
    apis: OrdMap<ApiId, Arc<Api>>,
    apis_by_audience: OrdMap<Audience, ApiId>,
}

/// What an event changed in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched {
    /// Nothing.
    Nothing,
    /// This application.
    Application(ApplicationId),
    /// This API.
    Api(ApiId),
}

impl Directory {
    /// Folds one event in and says what it changed. Total: an event that this projection does not care
    /// about changes nothing, and every event type is named, so that adding one does not compile until
    /// it is decided here.
    pub fn apply(&mut self, recorded: &RecordedEvent) -> Touched {
        match &recorded.envelope.event {
            Event::ApplicationRegistered(data) => self.fold_application(data.application_id, recorded),
            Event::ApplicationChanged(data) => self.fold_application(data.application_id, recorded),
            Event::ApplicationEnabled(data) => self.fold_application(data.application_id, recorded),
            Event::ApplicationDisabled(data) => self.fold_application(data.application_id, recorded),
            Event::ApplicationDeleted(data) => self.fold_application(data.application_id, recorded),
            Event::SecretRotated(data) => self.fold_application(data.application_id, recorded),
            Event::SecretRevoked(data) => self.fold_application(data.application_id, recorded),
            Event::ApiRegistered(data) => self.fold_api(data.api_id, recorded),
            Event::ApiChanged(data) => self.fold_api(data.api_id, recorded),
            Event::ApiDeleted(data) => self.fold_api(data.api_id, recorded),
            Event::ServiceStarted(_)
            | Event::ServiceStopped(_)
            | Event::SigningKeyAdded(_)
            | Event::SigningKeyActivated(_)
            | Event::SigningKeyRetired(_)
            | Event::TokenIssued(_)
            | Event::TokenRefused(_)
            | Event::RequestsThrottled(_)
            | Event::ApiCallAuthorized(_)
            | Event::TokenRevoked(_)
            | Event::TokensRevoked(_)
            | Event::ReferenceTokenIssued(_)
            | Event::ReferenceTokenRevoked(_)
            | Event::SessionStarted(_)
            | Event::SessionEnded(_)
            | Event::ApiCallDenied(_)
            | Event::AuditTrailRead(_)
            | Event::AuditTrailExported(_)
            | Event::ReportProduced(_)
            | Event::LegalHoldPlaced(_)
            | Event::LegalHoldReleased(_)
            | Event::EventsRemoved(_)
            | Event::IndexPruned(_)
            | Event::EventRemoved(_) => Touched::Nothing,
        }
    }

    /// Puts an application back as a checkpoint kept it.
    pub fn restore_application(&mut self, application: TrustedApplication) {
        self.applications_by_uri.insert(application.uri.clone(), application.id);
        self.applications.insert(application.id, Arc::new(application));
    }

    /// Puts an API back as a checkpoint kept it.
    pub fn restore_api(&mut self, api: Api) {
        self.apis_by_audience.insert(api.audience.clone(), api.id);
        self.apis.insert(api.id, Arc::new(api));
    }

    /// The application with this id.
    pub fn application(&self, id: ApplicationId) -> Option<&Arc<TrustedApplication>> {
        self.applications.get(&id)
    }

    /// Applications in the order of their names, those after `after`, the deleted ones too.
    pub fn applications_after(&self, after: Option<&ApplicationUri>) -> impl Iterator<Item = &Arc<TrustedApplication>> {
        let from = after.map_or(Bound::Unbounded, |uri| Bound::Excluded(uri.clone()));
        self.applications_by_uri
            .range((from, Bound::Unbounded))
            .filter_map(|(_, id)| self.applications.get(id))
    }

    /// How many applications there are, the deleted ones too.
    pub fn application_count(&self) -> usize {
        self.applications.len()
    }

    /// The API with this id.
    pub fn api(&self, id: ApiId) -> Option<&Arc<Api>> {
        self.apis.get(&id)
    }

    /// The API of this audience, unless it was deleted.
    pub fn api_of(&self, audience: &Audience) -> Option<&Arc<Api>> {
        self.apis
            .get(self.apis_by_audience.get(audience)?)
            .filter(|api| !api.is_deleted())
    }

    /// APIs in the order of their audiences, those after `after`, the deleted ones too.
    pub fn apis_after(&self, after: Option<&Audience>) -> impl Iterator<Item = &Arc<Api>> {
        let from = after.map_or(Bound::Unbounded, |audience| Bound::Excluded(audience.clone()));
        self.apis_by_audience
            .range((from, Bound::Unbounded))
            .filter_map(|(_, id)| self.apis.get(id))
    }

    fn fold_application(&mut self, id: ApplicationId, recorded: &RecordedEvent) -> Touched {
        let state = self.applications.get(&id).map(|state| TrustedApplication::clone(state));
        match TrustedApplication::fold(state, recorded) {
            Some(next) => {
                self.restore_application(next);
                Touched::Application(id)
            }
            None => Touched::Nothing,
        }
    }

    fn fold_api(&mut self, id: ApiId, recorded: &RecordedEvent) -> Touched {
        let state = self.apis.get(&id).map(|state| Api::clone(state));
        match Api::fold(state, recorded) {
            Some(next) => {
                self.restore_api(next);
                Touched::Api(id)
            }
            None => Touched::Nothing,
        }
    }
}
