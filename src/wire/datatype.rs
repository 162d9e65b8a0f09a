//! Kinds of documents. The name is also the collection of the kind in the store.

use super::names::is_name;

/// The kind of a document. The number is the wire code.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug, PartialOrd, Ord)]
#[repr(u8)]
#[allow(
    missing_docs,
    reason = "the variants are the names of the kinds, nothing more is known of them here"
)]
pub enum DataType {
    Invalid = 0,
    DataResource = 1,
    ProcessingResource = 2,
    StorageResource = 3,
    ComputeResource = 4,
    WorkflowResource = 5,
    Workflow = 6,
    WorkflowExecution = 7,
    Workspace = 8,
    Peer = 9,
    CollaborativeArea = 10,
    Rule = 11,
    Booking = 12,
    WorkflowHistory = 13,
    WorkspaceHistory = 14,
    Order = 15,
    PurchaseResource = 16,
}

impl DataType {
    /// All kinds, in the order of their codes.
    pub const ALL: [Self; 17] = [
        Self::Invalid,
        Self::DataResource,
        Self::ProcessingResource,
        Self::StorageResource,
        Self::ComputeResource,
        Self::WorkflowResource,
        Self::Workflow,
        Self::WorkflowExecution,
        Self::Workspace,
        Self::Peer,
        Self::CollaborativeArea,
        Self::Rule,
        Self::Booking,
        Self::WorkflowHistory,
        Self::WorkspaceHistory,
        Self::Order,
        Self::PurchaseResource,
    ];

    /// The five kinds a search looks through.
    pub const RESOURCE_KINDS: [Self; 5] = [
        Self::DataResource,
        Self::ProcessingResource,
        Self::StorageResource,
        Self::ComputeResource,
        Self::WorkflowResource,
    ];

    /// The wire code, 0 to 16.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The lower-case wire name; also the collection in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::DataResource => "data_resource",
            Self::ProcessingResource => "processing_resource",
            Self::StorageResource => "storage_resource",
            Self::ComputeResource => "compute_resource",
            Self::WorkflowResource => "workflow_resource",
            Self::Workflow => "workflow",
            Self::WorkflowExecution => "workflow_execution",
            Self::Workspace => "workspace",
            Self::Peer => "peer",
            Self::CollaborativeArea => "collaborative_area",
            Self::Rule => "rule",
            Self::Booking => "booking",
            Self::WorkflowHistory => "workflow_history",
            Self::WorkspaceHistory => "workspace_history",
            Self::Order => "order",
            Self::PurchaseResource => "purchase_resource",
        }
    }

    /// The kind of a code.
    pub fn from_code(code: u64) -> Option<Self> {
        usize::try_from(code).ok().and_then(|code| Self::ALL.get(code).copied())
    }

    /// The kind of a name: exactly the lower-case one, `PB_` before it is allowed as in every enum of the profile.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| is_name(name, kind.name()))
    }

    /// The fields of this kind, besides name and descriptions, in which a search looks: what people call such a resource by.
    /// Texts and lists of texts; what is deeper (instances, prices, addresses) is not looked at.
    pub fn attributes(self) -> &'static [&'static str] {
        match self {
            Self::DataResource => &["type", "format", "license", "keywords", "tags"],
            Self::ProcessingResource => &["type", "usage", "license", "maturity", "keywords", "tags"],
            Self::StorageResource => &["type", "storage_type", "acronym", "keywords", "tags"],
            Self::ComputeResource => &["type", "architecture", "infrastructure", "keywords", "tags"],
            Self::WorkflowResource => &["type", "keywords", "tags"],
            _ => &[],
        }
    }

    /// Whether searches look through this kind.
    pub fn is_resource_kind(self) -> bool {
        Self::RESOURCE_KINDS.contains(&self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attribute_can_be_read() {
        let all = DataType::ALL.into_iter().flat_map(DataType::attributes);
        assert!(all.clone().count() > 0);
        assert!(
            all.into_iter()
                .all(|attribute| crate::model::ATTRIBUTES.contains(attribute))
        );
    }

    #[test]
    fn codes_and_names_lead_back_to_the_kind() {
        for (code, kind) in DataType::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(kind.code()), code);
            assert_eq!(DataType::from_code(code as u64), Some(kind));
            assert_eq!(DataType::from_name(kind.name()), Some(kind));
            assert_eq!(kind.is_resource_kind(), (1..=5).contains(&code));
        }
        assert_eq!(DataType::from_code(17), None);
        assert_eq!(DataType::from_code(u64::MAX), None);
        assert_eq!(DataType::from_name("Peer"), None);
        assert_eq!(DataType::from_name("workflow"), Some(DataType::Workflow));
        assert_eq!(
            DataType::from_name("workflow_resource"),
            Some(DataType::WorkflowResource)
        );
    }
}
