// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/wire.hpp"

namespace sev::measure {

/// SEV-ES save area of one vCPU as a page of 4096 bytes. Fields are reached by name through `vmsa_fields`, whose table is the layout.
using Vmsa = ByteArray<4096>;

struct VmsaField {
    std::string_view name; // "cs.base", "rip", "sev_features" …
    std::size_t offset;
    std::size_t size_bytes;    // 1, 2, 4 or 8 for a number; any for an array
    bool is_array = false;     // bytes in file order rather than a little-endian number
};
/// Every field, ascending by offset, without overlap; all other bytes of a launched VMSA are zero.
/// Source: AMD64 APM volume 2 appendix B table B-4, Linux svm.h.
std::span<const VmsaField> vmsa_fields();
/// The older layout that virtee's sevctl prints with `vmsa show`: its names, its reserved gaps as fields, in its order, up to 3FFh.
std::span<const VmsaField> vmsa_sevctl_fields();
/// A field of `vmsa_fields`. Throws Error{Fault::usage} for another name.
const VmsaField& vmsa_field(std::string_view name);

/// Reads a page: exactly 4096 bytes, anything else is Error{Fault::malformed} that names `what`. Bytes outside all known fields are
/// kept: `stray_bytes` lists them, `describe` and `diff` show them.
Vmsa parse_vmsa(ByteView bytes, std::string_view what);

/// Value of a field that is a number. Throws Error{Fault::usage} for a name that is no number.
std::uint64_t get(const Vmsa& page, std::string_view field);
/// Sets a field that is a number. Throws likewise, and when the value does not fit.
void set(Vmsa& page, std::string_view field, std::uint64_t value);

struct VmsaValue {
    VmsaField field;
    std::uint64_t number; // 0 for an array
    Bytes bytes;          // in file order
    std::string text;     // "0x9b", or hex digits of an array in file order
};
/// All values in the order of `fields`, which is `vmsa_fields()` or `vmsa_sevctl_fields()`.
std::vector<VmsaValue> describe(const Vmsa& page, std::span<const VmsaField> fields = vmsa_fields());

/// A byte that is not zero and in no known field: nothing that we know of puts one there, yet it is measured.
struct StrayByte {
    std::size_t offset;
    std::uint8_t value;
    friend bool operator==(const StrayByte&, const StrayByte&) = default;
};
std::vector<StrayByte> stray_bytes(const Vmsa& page);

struct VmsaDifference {
    std::string field; // a name of vmsa_fields, or "byte 0x6a0" outside all fields
    std::string left, right; // hex values
    friend bool operator==(const VmsaDifference&, const VmsaDifference&) = default;
};
/// Field by field, ascending by offset; empty only for equal pages.
std::vector<VmsaDifference> diff(const Vmsa& left, const Vmsa& right);

/// EAX of CPUID Fn0000_0001, which KVM puts into RDX.
struct CpuSignature {
    std::uint32_t value = 0;
    /// family and model are the displayed ones (23, 49, 0 for EPYC-Rome). Throws Error{Fault::usage} when family > 270, model > 255 or stepping > 15.
    static CpuSignature of(unsigned family, unsigned model, unsigned stepping);
    /// QEMU CPU models: "EPYC-Rome", "EPYC-v4" … Throws Error{Fault::usage} with the list.
    static CpuSignature of_qemu_model(std::string_view model);
    unsigned family() const noexcept;
    unsigned model() const noexcept;
    unsigned stepping() const noexcept;
    std::string text() const; // "0x00830f10: family 23, model 49, stepping 0"
    friend bool operator==(const CpuSignature&, const CpuSignature&) = default;
};

struct QemuCpuModel {
    std::string_view name;
    std::uint16_t family;
    std::uint8_t model, stepping;
};
/// QEMU's AMD CPU models whose signatures are known here. With `-cpu host` the host's own signature applies.
std::span<const QemuCpuModel> qemu_cpu_models();

/// One value of a profile. Later rules override earlier ones of the same field.
struct VmsaRule {
    enum class Cpu { every, boot, others };
    enum class Value { constant, signature, features, reset_segment, reset_offset }; // reset: upper and lower half of the AP reset address
    std::string_view field;
    std::uint64_t constant = 0;
    Cpu cpu = Cpu::every;
    Value value = Value::constant;
};

/// How a VMM sets up the VMSAs of its guests: named, versioned data. A change of any rule is a new version.
struct VmsaProfile {
    std::string_view name; // "kvm-legacy"
    unsigned version;
    std::string_view title;
    std::string_view source;
    std::string_view unverified; // what nobody has checked against a real host; empty for nothing
    std::span<const VmsaRule> common, own; // `own` after `common`
    /// The signature is part of the page.
    bool uses_signature() const noexcept;
    /// vCPUs other than the first start where the firmware says.
    bool uses_reset_address() const noexcept;
};
/// kvm-legacy, kvm-init2, ec2, gce, krun.
std::span<const VmsaProfile> vmsa_profiles();
/// "kvm-legacy", or with its version "kvm-legacy@1". Throws Error{Fault::usage} with the list of names.
const VmsaProfile& vmsa_profile(std::string_view name);

struct VmsaInput {
    CpuSignature signature; // 0: not given; RDX is 0 then
    std::uint64_t sev_features = 0;
    /// AP reset address from the firmware's SEV-ES reset block; needed for vCPU index ≥ 1 (not for krun).
    std::optional<std::uint32_t> ap_reset_address;
};
/// The page of one vCPU. Throws Error{Fault::malformed} when an AP needs a reset address and the firmware has none or 0.
Vmsa build_vmsa(const VmsaProfile& profile, unsigned vcpu_index, const VmsaInput& input);

/// More than QEMU's q35 machine allows (1024, from QEMU 9 on 4096).
inline constexpr unsigned max_vcpus = 4096;
/// A number of vCPUs from a command line or a file: decimal, 1 to `max_vcpus`. Throws Error{Fault::usage} that says what was found: nothing,
/// a negative number, 0, too many, no number.
unsigned parse_vcpus(std::string_view text);
/// The same bounds for a number. Throws Error{Fault::usage}.
void check_vcpus(std::uint64_t vcpus);

} // namespace sev::measure
