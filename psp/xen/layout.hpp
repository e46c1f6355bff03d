// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "psp/xen/coco.hpp"

/// The operations' numbers and arguments, x86-64. Offsets are those of the series' C structures.
namespace sev::psp::xen::wire_format {

enum class Operation : std::uint32_t {
    platform_status = 0,
    prepare_initial_memory = 1,
    attestation_report = 2,
    platform_certificates = 3,
    signing_request = 4,
    regenerate_certificate = 5,
    import_certificate = 6,
    finish_initial_memory = 8,
    update_secrets = 9,
    set_secrets_area = 10,
    snp_platform_limits = 0x10000,
};
std::string_view name(Operation operation);

inline constexpr std::size_t prepare_size = 24;       // u16 domid @0, u64 gfn @8, u64 count @16
inline constexpr std::size_t report_a_size = 226;     // u16 domid @0, mnonce[16] @2, response[208] @18
inline constexpr std::size_t report_b_size = 232;     // u16 domid @0, mnonce[16] @2, u32 length @20, response[208] @24
// A: u8 sockets @0, status[28] @4, PDH PEK OCA CEK @32, chip ids[128] @8368. B: chip ids @0, u8 sockets @128, status @132, certificates @160
inline constexpr std::size_t certificates_size = 8496;
inline constexpr std::size_t import_size = 2 * SevCertificate::wire_size; // PEK, OCA
inline constexpr std::size_t finish_size = 2;         // u16 domid @0
inline constexpr std::size_t secrets_size = 88;       // u16 domid @0, header[52] @8, handle @64, u64 length @72, u64 gpa @80
inline constexpr std::size_t area_size = 24;          // u16 domid @0, u64 gpa @8, u64 size @16

/// Throws Error{Fault::system} for an errno other than 0, in one line with what it means.
void expect_success(Operation operation, int error_number);

} // namespace sev::psp::xen::wire_format
