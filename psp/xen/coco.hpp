// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "psp/command.hpp"

/// Xen's proposed hypercall for confidential guests (coco_op, 43), in the layouts that have been seen. No released Xen has it.
///
/// This is an interface of its own beside psp::Firmware: the hypervisor itself gives LAUNCH_START, ACTIVATE, LAUNCH_UPDATE_VMSA, LAUNCH_MEASURE and
/// LAUNCH_FINISH when a domain is made, built and unpaused, names guests by domain and memory by guest frame, and shows no guest handles, no ASIDs
/// and no mailbox. What of `Firmware` can be had without inventing answers is XenFirmware (psp/xen/xen_firmware.hpp).
/// Source: RFC series cover.1747312394.git.teddy.astie@vates.tech (2025-05-16); xcp-ng/xen 275d07e4877434d2f55fd6573cbcf96634a747f0 (Vates A), the
/// same header before operations 7 to 10 came (Vates B), and e31923d996ca876f39f63f08a024446785676c61 (SEV-SNP).
namespace sev::psp::xen {

/// Memory that an argument points to. The transport places `bytes` where the hypervisor reaches them, writes their address (8 bytes) at `address_at`
/// of the argument, and copies them back.
struct Handle {
    std::size_t address_at;
    std::span<std::uint8_t> bytes;
};

/// The hypercall. One call at a time.
class CocoCalls {
public:
    CocoCalls() = default;
    CocoCalls(const CocoCalls&) = delete;
    CocoCalls& operator=(const CocoCalls&) = delete;
    virtual ~CocoCalls() = default;
    /// One operation on `argument`, which holds afterwards what the hypervisor wrote. Returns 0 or an errno. Throws Error{Fault::system} when no
    /// hypercall can be made at all.
    virtual int call(std::uint32_t operation, std::span<std::uint8_t> argument, std::span<const Handle> handles) = 0;
};

/// The known layouts. They are told apart by what the hypervisor answers; Vates A and B answer alike, and one must be named.
enum class Layout {
    rfc_2025_05, // "rfc-2025-05": platform_status (24 bytes) and prepare_initial_mem only
    vates_a,     // "vates-a": the attestation report follows its nonce at once (226 bytes); certificates come before the chip ids
    vates_b,     // "vates-b": a length comes between (232 bytes); chip ids come before the certificates
};
std::string_view name(Layout layout);
std::optional<Layout> layout_named(std::string_view name);

enum class Platform : std::uint32_t { none = 0, amd_sev = 1, intel_tdx = 2, arm_rme = 3 };

/// Operation 0. Some revisions answer it with what they knew before the PSP was initialised: then the version is 0.0.0. The last two are of Vates'
/// branch alone.
struct CocoStatus {
    Platform platform = Platform::none;
    bool es = false, snp = false, tio = false; // what the platform could do
    bool supported = false, unsafe = false;    // unsafe without supported: there, and switched off by policy
    std::uint32_t features = 0;
    std::uint32_t version_major = 0, version_minor = 0;
    std::optional<std::uint32_t> version_build;
    bool owned = false; // flags bit 31; a clear one proves nothing

    static constexpr std::size_t rfc_size = 24, vates_size = 28;
    static CocoStatus parse_rfc(wire::View<rfc_size> v);
    static CocoStatus parse_vates(wire::View<vates_size> v);
    friend bool operator==(const CocoStatus&, const CocoStatus&) = default;
};

/// Operation 3: what PDH_CERT_EXPORT and GET_ID give. The status in its answer is passed over: its flags come out wrong in the revisions read.
struct CocoCertificates {
    PlatformCertificates certificates;
    std::vector<ChipId> chips; // one a socket; none when the PSP's firmware is older than GET_ID (API 0.16)
};

/// The coco hypercall in one layout. Every operation throws Error{Fault::system}: "coco operation N (name): errno and what it means", or that the
/// layout does not have it, which is known without a call.
class Coco {
public:
    Coco() = default;
    Coco(const Coco&) = delete;
    Coco& operator=(const Coco&) = delete;
    virtual ~Coco() = default;
    virtual Layout layout() const noexcept = 0;
    /// Level of the host (DESIGN's ladder): 3 without evidence, 4 with it, 5 when the platform has SEV-ES.
    virtual unsigned level() const noexcept = 0;

    virtual CocoStatus status() = 0;
    /// WBINVD and LAUNCH_UPDATE_DATA for `frames` pages from guest frame `gfn` on.
    virtual void prepare_initial_memory(std::uint16_t domain, std::uint64_t gfn, std::uint64_t frames) = 0;
    /// LAUNCH_UPDATE_VMSA for the domain's vCPUs when its policy has ES, then LAUNCH_MEASURE.
    virtual void finish_initial_memory(std::uint16_t domain) = 0;
    /// ATTESTATION. No operation gives LAUNCH_MEASURE's MEASURE.
    virtual AttestationReport report(std::uint16_t domain, const Mnonce& mnonce) = 0;
    /// Names the memory that secrets may go to.
    virtual void set_secrets_area(std::uint16_t domain, Gpa gpa, std::uint64_t length_bytes) = 0;
    /// LAUNCH_SECRET: header and ciphertext as the guest owner sealed them. Throws Error{Fault::usage} when [gpa, gpa + data) crosses a page.
    virtual void update_secret(std::uint16_t domain, Gpa gpa, const ByteArray<0x34>& header, ByteView data) = 0;
    /// PDH_CERT_EXPORT and GET_ID. Throws Error{Fault::malformed} also when the answer has another layout than this one.
    virtual CocoCertificates certificates() = 0;
    /// PEK_CSR.
    virtual SevCertificate signing_request() = 0;
    enum class Key : std::uint32_t { pek = 0, pdh = 1 };
    /// PEK_GEN or PDH_GEN.
    virtual void regenerate(Key key) = 0;
    /// PEK_CERT_IMPORT.
    virtual void import_certificates(const SevCertificate& pek, const SevCertificate& oca) = 0;
};

/// What a host's hypervisor says of the coco hypercall.
struct CocoProbe {
    enum class Answer {
        absent,      // no such hypercall: every released Xen
        refused,     // it is there, and not for us
        unsupported, // it is there, and the platform has no SEV, or SEV is switched off
        unknown,     // a layout that nobody here knows, the SNP revision, or Vates A or B without a name
        usable,
    };
    Answer answer = Answer::absent;
    std::string sentence; // one line for people, whatever the answer
    std::optional<Layout> layout;
    std::optional<CocoStatus> status;
    int error_number = 0;                  // errno of operation 0
    Bytes status_bytes;                    // what operation 0 wrote, whatever the layout
    std::optional<int> certificates_error; // 0 or errno of operation 3; absent: not asked, as operation 0 does not say that SEV is supported
    std::unique_ptr<Coco> coco; // when usable; refers to the calls it was probed with
};

/// probe asks which layout this is, by questions that change nothing: operation 0 into zeros and into ones, which shows how many bytes it writes;
/// operation 3, whose answer is dropped; operation 2 of a domain that cannot exist, which tells the RFC from Vates' branch; the first SNP operation,
/// whose revision is refused.
/// `named`: the layout that the host's administrator names; needed to tell Vates A from B, and refused when the hypervisor answers otherwise.
CocoProbe probe(CocoCalls& calls, std::optional<Layout> named);

/// Transport through libxencall (stable ABI), loaded when called, so that programs start without Xen. Throws Error{Fault::system} that says in one
/// line what is missing: the library, or the hypervisor's device.
std::unique_ptr<CocoCalls> open_xencall();

} // namespace sev::psp::xen
