#include "core/model/architectures/architecture.hpp"

#include <array>

namespace moira {

extern const architecture deepseek_v3_architecture;
extern const architecture olmoe_architecture;
extern const architecture qwen3_moe_architecture;

namespace {

constexpr std::array known{
    &deepseek_v3_architecture,
    &olmoe_architecture,
    &qwen3_moe_architecture,
};

} // namespace

const architecture* find_architecture(std::string_view model_type) noexcept {
    for (const auto* candidate : known)
        if (candidate->model_type == model_type)
            return candidate;
    return nullptr;
}

std::string architecture_names() {
    std::string names;
    for (const auto* candidate : known)
        names += (names.empty() ? "" : ", ") + std::string(candidate->model_type);
    return names;
}

} // namespace moira
