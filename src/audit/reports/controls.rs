//! The controls that reports serve, each with what the report is evidence of, and no more. A report is evidence for an
//! assessor; it does not make anybody compliant.

/// A control, and what a report shows about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    /// The standard.
    pub standard: &'static str,
    /// The control's number.
    pub control: &'static str,
    /// What the report is evidence of.
    pub evidence: &'static str,
}

/// PCI DSS 4.0.1.
pub(super) const fn pci(control: &'static str, evidence: &'static str) -> Control {
    Control {
        standard: "PCI DSS 4.0.1",
        control,
        evidence,
    }
}

/// SOC 2, the Trust Services Criteria.
pub(super) const fn soc2(control: &'static str, evidence: &'static str) -> Control {
    Control {
        standard: "SOC 2",
        control,
        evidence,
    }
}

/// ISO/IEC 27001:2022, Annex A.
pub(super) const fn iso(control: &'static str, evidence: &'static str) -> Control {
    Control {
        standard: "ISO/IEC 27001:2022",
        control,
        evidence,
    }
}

/// NIST SP 800-53 Rev. 5.
pub(super) const fn nist(control: &'static str, evidence: &'static str) -> Control {
    Control {
        standard: "NIST SP 800-53 Rev. 5",
        control,
        evidence,
    }
}
