// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "launch/asid_pool.hpp"
#include "launch/daemon/configuration.hpp"
#include "launch/guest.hpp"
#include "launch/platform.hpp"

namespace sev::daemon {

/// A PSP as the daemon was configured to use it, and what can be launched with it. Owned by the daemon; everything in it outlives the launches.
struct Backend {
    virtual ~Backend() = default;
    std::shared_ptr<psp::Firmware> firmware; // the transport itself; the daemon puts its queue in front
    std::optional<launch::Endorsement> endorsement;
    launch::AsidRange asids{.max = 0, .min_sev = 1};
    bool emulated = false;
    unsigned level = 0; // of the host alone
    std::string title;  // "emulated PSP: AMD EPYC Embedded 3151 (Naples)"
    std::string no_launches; // why nothing can be launched; empty when something can
    std::vector<std::unique_ptr<launch::GuestSource>> sources;
    psp::PageSource* pages = nullptr; // where memory for the PSP comes from; null without launches

    launch::GuestSource* source(std::string_view kind) const;
};

/// Opens what the configuration names; nothing else is ever tried. Throws as the transports do: for "xen" also when this Xen's hypercall is absent or
/// of no layout that is known or named. Nothing of the platform changes.
std::unique_ptr<Backend> open_backend(const Configuration& configuration);

/// The backend "xen" over these hypercalls, for open_backend and for tests. It launches nothing: no layout that is known lets an owner free a secret.
std::unique_ptr<Backend> open_xen_backend(const PspChoice& choice, std::unique_ptr<psp::xen::CocoCalls> calls);

} // namespace sev::daemon
