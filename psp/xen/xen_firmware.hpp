// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "psp/firmware.hpp"
#include "psp/xen/coco.hpp"

namespace sev::psp::xen {

/// The PSP behind Xen's coco hypercall, as far as the layouts give a caller the SEV API's own commands:
///
///   PDH_CERT_EXPORT, GET_ID   operation 3
///   PEK_CSR                   operation 4
///   PEK_GEN, PDH_GEN          operation 5
///   PEK_CERT_IMPORT           operation 6
///
/// For everything else `issue` throws Error{Fault::usage}: the hypervisor gives those commands by itself. PLATFORM_STATUS throws
/// Error{Fault::system}: no operation tells STATE, OWNER, CONFIG and GUEST_COUNT, and nothing is made up; what operation 0 says is `status`. No
/// operation returns a status of the firmware either: a hypercall that fails is Error{Fault::system} with its errno. One that changes certificates is
/// believed only when operation 3 shows the change afterwards, else Error{Fault::system}. One command at a time.
class XenFirmware final : public Firmware {
public:
    /// Probes. `named` as for probe(). Throws Error{Fault::system} with the probe's sentence unless the hypercall is usable.
    XenFirmware(std::unique_ptr<CocoCalls> calls, std::optional<Layout> named);
    Status issue(CommandId id, Call& call) override;
    std::string_view backend() const noexcept override { return "xen"; }
    Layout layout() const noexcept { return coco_->layout(); }
    unsigned level() const noexcept { return coco_->level(); }
    /// Operation 0, as it was when this was made.
    const CocoStatus& status() const noexcept { return status_; }

private:
    Status export_certificates(Call& call);
    Status get_id(Call& call);
    void regenerate(Coco::Key key);
    void import_certificates(const Call& call);

    std::unique_ptr<CocoCalls> calls_; // coco_ refers to it
    std::unique_ptr<Coco> coco_;
    CocoStatus status_;
};

} // namespace sev::psp::xen
