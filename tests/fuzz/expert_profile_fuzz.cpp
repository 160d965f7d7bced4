// experts.profile: a text file that anybody may have written.
#include "core/experts/expert_profile.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(bytes), size);
    const auto profile = moira::parse_expert_profile(text, "fuzz.profile");
    if (!profile)
        return 0;
    for (const float rate : profile->use_rates)
        if (!(rate >= 0 && rate <= 1))
            std::abort();
    const auto printed = moira::print_expert_profile(*profile);
    const auto again = moira::parse_expert_profile(printed, "printed.profile");
    if (!again || again->model != profile->model || moira::print_expert_profile(*again) != printed)
        std::abort();
    return 0;
}
