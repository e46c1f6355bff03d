// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "psp/certificate.hpp"

namespace sev::psp {

/// Whether the slot holds a signature by the parent's key over the child's signed bytes, made with the parent's algorithm. Unlike `signature_valid`
/// it leaves the usages to the caller: `verify_chain` judges them by checks of their own.
bool signed_with_key_of(const SevCertificate& child, const SignatureSlot& slot, const CaCertificate& parent);
bool signed_with_key_of(const SevCertificate& child, const SignatureSlot& slot, const SevCertificate& parent);

} // namespace sev::psp
