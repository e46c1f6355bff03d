// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "launch/probe/report.hpp"

/// The pieces of `assess`, each a pure function; inside launch/probe only.
namespace sev::probe {

/// What is known once the machine is: the facts that several parts share.
struct Evidence {
    const Probe& probe;
    const Machine& machine;
    std::optional<PspReport> psp;
    std::optional<CocoStatus> coco;
    Fact smee;     // SYSCFG[23]
    Fact smm_lock; // HWCR[0]
    Fact tsme;
    Fact xen_sev;  // this Xen can launch SEV guests

    /// One bit of the encryption leaf as a fact.
    Fact silicon(bool EncryptionLeaf::*bit, std::string_view what) const;
};

Evidence gather(const Probe& probe, const Machine& machine);
std::array<Feature, 5> assess_features(const Evidence& evidence);
std::vector<CheckResult> assess_checks(const Evidence& evidence, const std::array<Feature, 5>& features);
Level assess_level(const Evidence& evidence);
std::array<LayerResult, 6> assess_layers(const Evidence& evidence, const std::array<Feature, 5>& features);

/// Whether a kvm_amd parameter says yes: "Y" or "1".
bool says_yes(const Reading<std::string>& parameter);

} // namespace sev::probe
