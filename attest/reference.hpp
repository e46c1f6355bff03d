// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "attest/owner_policy.hpp"

namespace sev::attest {

/// Another digest that this guest can have, and what it means when evidence proves it: explains a refusal, and is never trusted.
struct KnownOther {
    Digest digest{};
    std::string meaning;
    friend bool operator==(const KnownOther&, const KnownOther&) = default;
};

/// A reference value ready to be compared: the launch digest the owner expects, and what it consists of where the owner knows.
struct Reference {
    std::string name;
    Digest digest{};
    std::vector<Region> regions;               // empty when only the digest is known
    std::optional<measure::Area> secret_block; // of the recipe's firmware: where its secret table goes
    std::vector<std::string> uncovered;        // what this digest does not cover, for people
    std::vector<KnownOther> others{};          // Xen PVH: the same guest as an earlier or later build of its process
    friend bool operator==(const Reference&, const Reference&) = default;
};

/// Computes the references of a policy from the owner's own files, which are mapped and hashed, never copied. Throws Error{Fault::system} or
/// Error{Fault::malformed} "reference NAME: …" for the first that cannot be computed: a reference that is silently left out would change a verdict's
/// reason.
std::vector<Reference> resolve_references(const OwnerPolicy& policy);
Reference resolve_reference(const ReferenceRule& rule, const Path& base);
/// The owner's files that this reference is computed from, in the recipe's order; none for a digest. A change of any of them may change the
/// reference.
std::vector<Path> files_of(const ReferenceRule& rule, const Path& base);

/// How a descriptor differs from a reference, region by region, one sentence each; empty when they agree or the reference has no regions.
std::vector<std::string> explain_difference(const Reference& reference, const LaunchDescriptor& descriptor);

} // namespace sev::attest
