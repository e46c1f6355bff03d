// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string_view>

#include "psp/command_id.hpp"
#include "psp/types.hpp"

/// What no public source pins down, and what this emulator does there: one place, so that it can be corrected when a source or a machine says
/// otherwise. The order of checks is the table in rules.cpp, with its reasons in machine.cpp.
namespace sev::psp::emulator::choices {

/// Unknown ids, SNP's (80h and above) among them, answer INVALID_COMMAND. RING_BUFFER, SEND_*, RECEIVE_* and SWAP_* are known but not there:
/// UNSUPPORTED in every platform state, before any other check.
constexpr bool unsupported(CommandId id) noexcept {
    const std::uint32_t raw = static_cast<std::uint32_t>(id);
    return id == CommandId::ring_buffer || (raw >= 0x40 && raw <= 0x44) || (raw >= 0x50 && raw <= 0x53) || id == CommandId::swap_out ||
           id == CommandId::swap_in;
}

/// Firmware older than this answers INVALID_COMMAND. Attestation came with API 0.23 (AMD staff in AMDESE/AMDSEV issue 4); GET_ID and
/// DOWNLOAD_FIRMWARE as Linux' driver gates them; INIT_EX somewhere from 0.22 to 0.24, of which the latest is assumed.
constexpr ApiVersion introduced_in(CommandId id) noexcept {
    switch (id) {
    case CommandId::download_firmware: return {0, 15};
    case CommandId::get_id: return {0, 16};
    case CommandId::attestation: return {0, 23};
    case CommandId::init_ex: return {0, 24};
    default: return {0, 0};
    }
}

/// PEK_CSR is legal in INIT alone on API 0.17 (AMD sev-tool's list), in INIT and WORKING on newer firmware.
inline constexpr ApiVersion pek_csr_in_working_since{0, 18};

/// A policy with reserved bits, and POLICY.ES on a platform that was initialised without SEV-ES, are POLICY_FAILURE; so is LAUNCH_UPDATE_VMSA for a
/// guest without POLICY.ES. Context for one more guest is judged right after its policy.

/// The bits of FLAGS in INIT and INIT_EX that mean something (bit 0: SEV-ES); any other is INVALID_PARAM.
inline constexpr std::uint32_t init_flags = 0x1;
inline constexpr std::uint32_t tmr_bytes = 0x10'0000; // and its alignment

/// Guest handles count up from 1; one is given out again only after the counter has wrapped round.
inline constexpr std::uint32_t first_handle = 1;

/// A guest may share the VEK of another in any state that this emulator reaches.
/// COPY needs no ASID: the VEK lives in the guest context. DEACTIVATE of an inactive guest is SUCCESS.

/// ATTESTATION needs a final launch digest: legal in LSECRET and RUNNING, INVALID_GUEST_STATE in LUPDATE.
/// A command buffer may lie at any mapped address; so may certificates, sessions, packets and outputs (Linux aligns them all). Firmware images are
/// 32-byte and GET_ID's buffer 8-byte aligned, as in Linux' driver. An array of APIC ids is 4-byte aligned, and its ids are not judged: there are no
/// cores.
inline constexpr std::uint64_t firmware_align = 32, id_align = 8, apic_id_align = 4;
inline constexpr std::uint32_t max_apic_ids = 4096; // beyond, or none at all: INVALID_LENGTH

/// Every address that a command names may carry the C-bit of the machine, which is masked off (KVM sets it for some commands).
/// An address range that touches the TMR of a platform initialised with SEV-ES is INVALID_ADDRESS, the command buffer's too.

/// DOWNLOAD_FIRMWARE is legal in UNINIT, and, after its address and length are judged, UNSUPPORTED: an emulator cannot run AMD's firmware, and
/// success with nothing done would be a lie. Largest image: 64 KiB on Naples and Rome, 128 KiB on Milan (AMD sev-tool).
constexpr std::uint32_t max_firmware_bytes(Product product) noexcept {
    return product == Product::naples || product == Product::rome ? 0x1'0000 : 0x2'0000;
}

/// LAUNCH_SECRET: FLAGS.COMPRESSED is UNSUPPORTED, any other flag INVALID_PARAM; both are judged before the MAC. 16 bytes to 16 KiB.
inline constexpr std::uint32_t packet_compressed = 0x1;
inline constexpr std::uint32_t max_secret_bytes = 0x4000;

/// Without a session TEK and TIK are random, so that nobody can verify the measurement or inject a secret.

/// PEK_CERT_IMPORT: ALREADY_OWNED is judged where policies are, before lengths. The PEK's other signature slot must be empty, as in a CSR.
/// The OCA may be P-384 or RSA, with SHA-256 or SHA-384.

/// LENGTH of INIT_EX and EX_LENGTH of ACTIVATE_EX must be the size of their buffer, NV_LENGTH 8000h, DH_CERT_LENGTH and SESSION_LENGTH exactly the
/// size of theirs: INVALID_LENGTH. The NV buffer stays in use after SHUTDOWN (for PLATFORM_RESET) until the next INIT, INIT_EX or power cycle.
inline constexpr std::uint32_t nv_bytes = 0x8000;
inline constexpr std::uint64_t nv_align = 0x1000;

/// GET_ID writes as many ids as fit, one for each socket, and needs room for at least one.

/// API version in a CEK certificate: 0.14, as in AMD's certificates of Naples and Rome.
inline constexpr ApiVersion cek_api{0, 14};
/// The CEK's scalar: KDF with this label (AMD sev-tool) over the chip's secret, as HMAC-SHA-256 in counter mode to 384 bits.
inline constexpr std::string_view cek_label = "sev-chip-endorsement-key";

} // namespace sev::psp::emulator::choices
