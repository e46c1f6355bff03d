// SPDX-License-Identifier: Apache-2.0
#include "psp/status.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "psp/name_lookup.hpp"

namespace sev::psp {
namespace {

constexpr std::array statuses{
    StatusInfo{Status::success, "SUCCESS", "the command was carried out", "nothing to do"},
    StatusInfo{Status::invalid_platform_state, "INVALID_PLATFORM_STATE", "the command is not allowed in the platform's present state",
               "look at the state with 'sevctl status': most commands need INIT to have run, INIT and PLATFORM_RESET need a platform that is shut "
               "down, and key changes need one without guests"},
    StatusInfo{Status::invalid_guest_state, "INVALID_GUEST_STATE", "the command is not allowed in the guest's present state",
               "keep to the order LAUNCH_START, LAUNCH_UPDATE_DATA and _VMSA, LAUNCH_MEASURE, LAUNCH_SECRET, LAUNCH_FINISH; a guest that missed a "
               "step must be decommissioned and launched anew"},
    StatusInfo{Status::invalid_config, "INVALID_CONFIG", "the platform is not set up for SEV alike on all cores (memory encryption, SMM lock)",
               "enable SMEE (SYSCFG[23]) and the SMM lock in the firmware setup, update the BIOS, and boot again"},
    StatusInfo{Status::invalid_length, "INVALID_LENGTH", "a buffer is too small or a length is not what the command demands",
               "ask for the length first (call with length 0 and read back what the firmware wants), and keep guest regions to multiples of 16 "
               "bytes"},
    StatusInfo{Status::already_owned, "ALREADY_OWNED", "the platform has an external owner already",
               "give it back to itself with 'sevctl reset' while no guest runs, then provision it; this ends the validity of every earlier chain"},
    StatusInfo{Status::invalid_certificate, "INVALID_CERTIFICATE", "a certificate has a wrong version, usage, algorithm or key",
               "check the file with 'sevctl show' and 'sevctl verify'; LAUNCH_START wants a guest owner certificate of usage PDH on P-384, "
               "PEK_CERT_IMPORT the platform's own PEK as PEK_CSR gave it"},
    StatusInfo{Status::policy_failure, "POLICY_FAILURE", "the guest's policy forbids it, or asks for more than this platform has",
               "compare the policy with the platform: its API version must reach the policy's, ES needs SEV-ES initialised, NODBG forbids debugging, "
               "NOKS key sharing, and reserved bits must be 0"},
    StatusInfo{Status::inactive, "INACTIVE", "the guest has no ASID", "run ACTIVATE for this guest before touching its memory"},
    StatusInfo{Status::invalid_address, "INVALID_ADDRESS", "an address is misaligned, not memory, or inside a range that belongs to the firmware",
               "align guest data to 16 bytes and VMSA pages to 4096, and use memory that is pinned and not reserved"},
    StatusInfo{Status::bad_signature, "BAD_SIGNATURE", "a certificate's signature does not verify",
               "find the bad link with 'sevctl verify'; sign the PEK anew from a fresh PEK_CSR if the platform's keys were rotated in between"},
    StatusInfo{Status::bad_measurement, "BAD_MEASUREMENT", "a MAC does not match: of the session's keys, its policy, or a packet",
               "make the session anew for this platform's present PDH, launch with exactly the policy the session was made for, and seal secrets to "
               "this very launch's measurement"},
    StatusInfo{Status::asid_owned, "ASID_OWNED", "another guest uses this ASID", "take a free ASID, or deactivate the guest that holds this one"},
    StatusInfo{Status::invalid_asid, "INVALID_ASID", "the ASID is 0, beyond the last one, or in the wrong range for this guest's policy",
               "take an SEV-ES guest's ASID from below the lowest SEV-only one (CPUID 8000001Fh EDX) and any other guest's from there up to ECX; the "
               "firmware setup moves the border"},
    StatusInfo{Status::wbinvd_required, "WBINVD_REQUIRED", "caches have not been written back on all cores since an ASID was freed",
               "run WBINVD on every core, then DF_FLUSH, then try again"},
    StatusInfo{Status::df_flush_required, "DF_FLUSH_REQUIRED", "the data fabric's buffers have not been flushed since the ASID was freed",
               "run DF_FLUSH, then ACTIVATE again"},
    StatusInfo{Status::invalid_guest, "INVALID_GUEST", "no guest has this handle",
               "use the handle that LAUNCH_START returned; it ends with DECOMMISSION, SHUTDOWN and a reset of the platform"},
    StatusInfo{Status::invalid_command, "INVALID_COMMAND", "the firmware does not know this command",
               "check the firmware's API version with 'sevctl show version': it may be too old, or SEV-SNP only"},
    StatusInfo{Status::active, "ACTIVE", "the guest is active, and the command needs it inactive", "run DEACTIVATE for this guest first"},
    StatusInfo{Status::hwerror_platform, "HWERROR_PLATFORM", "the hardware failed, and the platform's protection is still intact",
               "shut the platform down and initialise it again; if it comes back, power-cycle the machine and look for a BIOS update"},
    StatusInfo{Status::hwerror_unsafe, "HWERROR_UNSAFE", "the hardware failed, and the guests' protection can no longer be relied upon",
               "destroy all encrypted guests, power-cycle the machine, and do not trust it until the cause is found"},
    StatusInfo{Status::unsupported, "UNSUPPORTED", "the firmware knows the command or option but does not offer it",
               "look for a newer firmware, or do without: compression, migration and SWAP are often missing"},
    StatusInfo{Status::invalid_param, "INVALID_PARAM", "a field of the command has a value that is not allowed, such as a reserved one that is not 0",
               "check flags and reserved fields of the command; a program that is newer than the firmware may set bits it does not know"},
    StatusInfo{Status::resource_limit, "RESOURCE_LIMIT", "the firmware has no room for another guest",
               "decommission guests that have ended; contexts can leak when a host program dies, and SHUTDOWN frees them all"},
    StatusInfo{Status::secure_data_invalid, "SECURE_DATA_INVALID", "the platform's stored keys failed their integrity check and were dropped",
               "run INIT once more: it makes new keys, so that the platform must be provisioned and its chain exported again"},
    StatusInfo{Status::invalid_page_size, "INVALID_PAGE_SIZE", "a page has another size than the command demands (SEV-SNP)",
               "this is an SEV-SNP answer: check that no SEV-SNP host runs beside, and report it"},
    StatusInfo{Status::invalid_page_state, "INVALID_PAGE_STATE", "a page is in the wrong state of the reverse map (SEV-SNP)",
               "on a host with SEV-SNP enabled, command buffers must be firmware-owned pages: use a kernel that knows SEV-SNP, or switch it off"},
    StatusInfo{Status::invalid_mdata_entry, "INVALID_MDATA_ENTRY", "the metadata of a swapped page is wrong (SEV-SNP)",
               "give SWAP_IN the metadata entry that SWAP_OUT wrote for this very page"},
    StatusInfo{Status::invalid_page_owner, "INVALID_PAGE_OWNER", "a page belongs to another guest (SEV-SNP)",
               "give each guest pages of its own; on a plain SEV host report it"},
    StatusInfo{Status::aead_oflow, "AEAD_OFLOW", "a message counter would overflow (SEV-SNP)", "end this guest and launch it anew, with a new key"},
    StatusInfo{Status::ring_buffer_exit, "RING_BUFFER_EXIT", "the firmware left ring buffer mode",
               "issue the commands one by one through the mailbox, or start ring buffer mode again"},
};
static_assert(std::ranges::is_sorted(statuses, {}, &StatusInfo::status));

} // namespace

std::span<const StatusInfo> all_statuses() { return statuses; }

const StatusInfo* find_status(std::uint16_t code) {
    const auto found = std::ranges::find(statuses, Status{code}, &StatusInfo::status);
    return found == statuses.end() ? nullptr : &*found;
}

std::optional<Status> status_named(std::string_view text) {
    for (const StatusInfo& info : statuses) {
        if (same_name(text, info.name)) return info.status;
    }
    const auto code = code_number(text);
    if (!code || *code > 0xFFFF || !find_status(static_cast<std::uint16_t>(*code))) return std::nullopt;
    return Status{static_cast<std::uint16_t>(*code)};
}

std::string text(Status status) {
    const auto code = static_cast<std::uint16_t>(status);
    const StatusInfo* info = find_status(code);
    return info ? fmt::format("{} (0x{:04X})", info->name, code) : fmt::format("unknown status (0x{:04X})", code);
}

std::string describe(Status status) {
    const StatusInfo* info = find_status(static_cast<std::uint16_t>(status));
    return info ? fmt::format("{}: {}", text(status), info->cause) : text(status);
}

} // namespace sev::psp
