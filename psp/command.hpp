// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "psp/firmware.hpp"
#include "psp/structures.hpp"

/// Typed commands: a value with id, name, reply type, encode and decode. Layouts: SEV API (AMD 55766) chapters 5 and 6; sizes and offsets
/// as in Linux psp-sev.h and AMD sev-tool sevapi.h.
namespace sev::psp {

struct Nothing {
    friend bool operator==(const Nothing&, const Nothing&) = default;
};

/// Defines the parts every command has. `decode` reads the reply out of a call that succeeded.
#define SEV_COMMAND(command_id, command_name, reply_type)    \
    static constexpr CommandId id = CommandId::command_id;   \
    static constexpr std::string_view name = command_name;   \
    using Reply = reply_type;                                \
    Call encode() const;                                     \
    static Reply decode(const Call& call)

/// TMR for SEV-ES: `length` 1 MiB, address 1 MiB aligned, in the transport's address space. Without `es` both are ignored.
struct Init {
    SEV_COMMAND(init, "INIT", Nothing);
    bool es = false;
    SystemAddress tmr{};
    std::uint32_t tmr_length_bytes = 0;
};
struct Shutdown {
    SEV_COMMAND(shutdown, "SHUTDOWN", Nothing);
};
struct PlatformReset {
    SEV_COMMAND(platform_reset, "PLATFORM_RESET", Nothing);
};
struct GetPlatformStatus {
    SEV_COMMAND(platform_status, "PLATFORM_STATUS", PlatformStatus);
};
struct PekGen {
    SEV_COMMAND(pek_gen, "PEK_GEN", Nothing);
};
/// The reply is the PEK with both signature slots empty.
struct PekCsr {
    SEV_COMMAND(pek_csr, "PEK_CSR", SevCertificate);
};
struct PekCertImport {
    SEV_COMMAND(pek_cert_import, "PEK_CERT_IMPORT", Nothing);
    SevCertificate pek, oca;
};
/// What PDH_CERT_EXPORT gives: the CEK is without AMD's signature.
struct PlatformCertificates {
    SevCertificate pdh, pek, oca, cek;
    friend bool operator==(const PlatformCertificates&, const PlatformCertificates&) = default;
};
struct PdhCertExport {
    SEV_COMMAND(pdh_cert_export, "PDH_CERT_EXPORT", PlatformCertificates);
};
struct PdhGen {
    SEV_COMMAND(pdh_gen, "PDH_GEN", Nothing);
};
struct DfFlush {
    SEV_COMMAND(df_flush, "DF_FLUSH", Nothing);
};
/// The reply has one id a socket.
struct GetId {
    SEV_COMMAND(get_id, "GET_ID", std::vector<ChipId>);
    std::size_t sockets = 1;
};
struct Decommission {
    SEV_COMMAND(decommission, "DECOMMISSION", Nothing);
    GuestHandle guest{};
};
struct Activate {
    SEV_COMMAND(activate, "ACTIVATE", Nothing);
    GuestHandle guest{};
    Asid asid{};
};
struct Deactivate {
    SEV_COMMAND(deactivate, "DEACTIVATE", Nothing);
    GuestHandle guest{};
};
struct GetGuestStatus {
    SEV_COMMAND(guest_status, "GUEST_STATUS", GuestStatus);
    GuestHandle guest{};
};
/// `session` and `godh` both or neither. The session is opaque here: the host carries it.
struct LaunchStart {
    SEV_COMMAND(launch_start, "LAUNCH_START", GuestHandle);
    Policy policy;
    GuestHandle share_with{}; // 0: a new VEK
    std::optional<SevCertificate> godh;
    std::optional<ByteArray<0x80>> session;
};
/// Address and length are multiples of 16.
struct LaunchUpdateData {
    SEV_COMMAND(launch_update_data, "LAUNCH_UPDATE_DATA", Nothing);
    GuestHandle guest{};
    SystemAddress at{};
    std::uint32_t length_bytes = 0;
};
/// One VMSA page: 4 KiB aligned, 4096 bytes.
struct LaunchUpdateVmsa {
    SEV_COMMAND(launch_update_vmsa, "LAUNCH_UPDATE_VMSA", Nothing);
    GuestHandle guest{};
    SystemAddress at{};
    std::uint32_t length_bytes = 0x1000;
};
struct LaunchMeasure {
    SEV_COMMAND(launch_measure, "LAUNCH_MEASURE", LaunchMeasurement);
    GuestHandle guest{};
};
/// Header and ciphertext as the guest owner sealed them; `at` is where the plaintext goes, `data.size()` bytes.
struct LaunchSecret {
    SEV_COMMAND(launch_secret, "LAUNCH_SECRET", Nothing);
    GuestHandle guest{};
    ByteArray<0x34> header{};
    SystemAddress at{};
    Bytes data;
};
struct LaunchFinish {
    SEV_COMMAND(launch_finish, "LAUNCH_FINISH", Nothing);
    GuestHandle guest{};
};
struct Attestation {
    SEV_COMMAND(attestation, "ATTESTATION", AttestationReport);
    GuestHandle guest{};
    Mnonce mnonce{};
};
/// Copies `length_bytes` of guest memory in the clear to `to`. POLICY_FAILURE under NODBG.
struct DbgDecrypt {
    SEV_COMMAND(dbg_decrypt, "DBG_DECRYPT", Nothing);
    GuestHandle guest{};
    SystemAddress from{}, to{};
    std::uint32_t length_bytes = 0;
};
struct DbgEncrypt {
    SEV_COMMAND(dbg_encrypt, "DBG_ENCRYPT", Nothing);
    GuestHandle guest{};
    SystemAddress from{}, to{};
    std::uint32_t length_bytes = 0;
};

#undef SEV_COMMAND

} // namespace sev::psp
