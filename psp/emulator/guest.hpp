// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <mutex>
#include <optional>

#include "psp/emulator/asid_table.hpp"
#include "psp/emulator/loaded_ranges.hpp"
#include "psp/emulator/memory_cipher.hpp"
#include "psp/keys.hpp"

namespace sev::psp::emulator {

/// GCTX, one guest's context. All but policy, handle and group is guarded by `mutex`. Keys live here and nowhere else: TEK and TIK until
/// LAUNCH_FINISH, the VEK until DECOMMISSION or SHUTDOWN.
struct Guest {
    Guest(Policy its_policy, MemoryKey its_key, TransportKeys keys)
        : policy{its_policy}, key{std::move(its_key)}, transport{std::move(keys)}, cipher{std::make_unique<MemoryCipher>(*key)} {}

    const Policy policy;
    GuestHandle handle{}; // with the group, set before anybody else sees the guest, and then never again
    KeyGroup group{};
    std::mutex mutex;
    GuestState state = GuestState::launch_update;
    Asid asid{};                             // 0: inactive
    std::optional<MemoryKey> key;            // with encrypted memory or without: a guest that shares it gets it from here
    std::optional<TransportKeys> transport;
    std::unique_ptr<MemoryCipher> cipher;
    Sha256 running_digest;                   // LD while in LUPDATE
    Digest launch_digest{}, measure{};       // final from LSECRET on
    LoadedRanges loaded;                     // with Options::plain_after_finish
    bool plain = false;                      // its memory is no longer encrypted

    bool active() const noexcept { return raw(asid) != 0; }
    /// DECOMMISSION and SHUTDOWN: nothing of the guest is left.
    void erase() {
        state = GuestState::invalid;
        asid = Asid{};
        key.reset();
        transport.reset();
        cipher.reset();
        loaded.clear();
        running_digest = Sha256{};
        launch_digest = {};
        measure = {};
    }
};

} // namespace sev::psp::emulator
