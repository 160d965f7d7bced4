#include "core/route/scripted_predictor.hpp"

#include "core/route/split_mix.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace moira {
namespace {

/// Every place has numbers of its own.
split_mix random_at(std::uint64_t seed, route_position at, std::uint32_t layer) noexcept {
    using random = split_mix;
    return split_mix(random::mix(random::mix(random::mix(random::mix(seed) ^ at.sequence) ^ at.token) ^ layer));
}

template <class T>
bool parse_number(std::string_view text, T& value) {
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    return parsed.ec == std::errc() && parsed.ptr == text.data() + text.size();
}

} // namespace

result<scripted_options> parse_scripted(std::string_view text) {
    scripted_options options;
    const std::string whole(text);
    const auto refuse = [&whole] {
        return fail(errc::invalid_argument,
                    "'" + whole +
                        "' does not say how right a scripted predictor is: "
                        "recall=R,precision=P,seed=N with R in 0 .. 1 and P above 0, at most 1");
    };
    while (!text.empty()) {
        const auto part = text.substr(0, text.find(','));
        text.remove_prefix(std::min(part.size() + 1, text.size()));
        const auto equals = part.find('=');
        if (equals == std::string_view::npos)
            return refuse();
        const auto key = part.substr(0, equals), value = part.substr(equals + 1);
        const bool read = key == "recall"      ? parse_number(value, options.recall)
                          : key == "precision" ? parse_number(value, options.precision)
                                               : key == "seed" && parse_number(value, options.seed);
        if (!read)
            return refuse();
    }
    if (!(options.recall >= 0 && options.recall <= 1 && options.precision > 0 && options.precision <= 1))
        return refuse();
    return options;
}

std::string scripted_predictor::name() const {
    if (options_.recall == 1 && options_.precision == 1)
        return "oracle";
    char text[128];
    std::snprintf(text, sizeof text, "scripted:recall=%g,precision=%g,seed=%llu", options_.recall, options_.precision,
                  static_cast<unsigned long long>(options_.seed));
    return text;
}

void scripted_predictor::predict(route_position at, std::uint32_t layer, std::vector<predicted_expert>& into) {
    const auto chosen = trace_->ids(trace_->sequences[at.sequence], at.token, layer);
    const auto probability = static_cast<float>(options_.precision);
    auto random = random_at(options_.seed, at, layer);
    const auto first = into.size();
    for (const auto expert : chosen)
        if (random.uniform() < options_.recall)
            into.push_back({expert, probability});
    const double wrong =
        options_.recall * static_cast<double>(chosen.size()) * (1 - options_.precision) / options_.precision;
    const auto others = static_cast<double>(trace_->experts) - static_cast<double>(chosen.size());
    const auto count = static_cast<std::size_t>(std::min(std::floor(wrong + random.uniform()), others));
    // Evenly among the others: draw, and draw again what is chosen or named already.
    for (const auto end = into.size() + count; into.size() < end;) {
        const auto expert = static_cast<std::int32_t>(random.below(trace_->experts));
        const auto named = std::span(into).subspan(first);
        const bool taken = std::find(chosen.begin(), chosen.end(), expert) != chosen.end() ||
                           std::any_of(named.begin(), named.end(),
                                       [expert](const predicted_expert& other) { return other.expert == expert; });
        if (!taken)
            into.push_back({expert, probability});
    }
    for (auto place = into.size(); place > first + 1; --place)
        std::swap(into[place - 1], into[first + random.below(place - first)]);
}

result<std::unique_ptr<trace_predictor>> make_scripted_predictor(const predictor_request& request,
                                                                 const route_trace& trace) {
    if (request.name == "oracle" && !request.options.empty())
        return fail(errc::invalid_argument, "the oracle takes no options; 'scripted' does");
    auto options = parse_scripted(request.options);
    if (!options)
        return tl::unexpected(options.error());
    return std::make_unique<scripted_predictor>(trace, *options);
}

} // namespace moira
