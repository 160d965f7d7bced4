#include "core/batch/generation_request.hpp"

namespace moira {

std::string_view finish_reason_name(finish_reason reason) noexcept {
    switch (reason) {
    case finish_reason::stop:
        return "stop";
    case finish_reason::length:
        return "length";
    case finish_reason::cancelled:
        return "cancelled";
    case finish_reason::error:
        break;
    }
    return "error";
}

} // namespace moira
