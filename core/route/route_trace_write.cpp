#include "core/route/route_format.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

namespace moira {
namespace {

constexpr float f16_max = 65504.0F;

/// To nearest, ties to even. Precondition: |value| rounds to at most f16_max.
std::uint16_t f32_to_f16(float value) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
    const float magnitude = std::fabs(value);
    if (magnitude < 0x1p-14F) // subnormal in 16 bits: a whole number of 2^-24; rint rounds ties to even
        return static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(std::rint(std::ldexp(magnitude, 24))));
    constexpr std::uint32_t dropped = 13, bias_difference = 127 - 15;
    const std::uint32_t kept = bits & 0x7fffffffU;
    const std::uint32_t rounded = kept + ((1U << (dropped - 1)) - 1) + ((kept >> dropped) & 1U);
    return static_cast<std::uint16_t>(sign | ((rounded >> dropped) - (bias_difference << 10)));
}

/// A file that is removed again unless it was renamed to its final name. Remembers the first failure.
class hashed_file {
public:
    explicit hashed_file(std::filesystem::path target) : target_(std::move(target)) {
        // The process id keeps two writers of one target apart.
        path_ = target_.string() + ".part" + std::to_string(::getpid());
        descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (descriptor_ < 0)
            failed_ = errno;
    }
    hashed_file(const hashed_file&) = delete;
    hashed_file& operator=(const hashed_file&) = delete;
    ~hashed_file() {
        if (descriptor_ >= 0) {
            ::close(descriptor_);
            ::unlink(path_.c_str());
        }
    }

    template <class T>
    void put(std::span<const T> values) {
        auto bytes = std::as_bytes(values);
        hash_.update(bytes);
        constexpr std::size_t write_bytes_max = std::size_t{1} << 30; // Linux transfers less than 2 GiB per call
        while (!failed_ && !bytes.empty()) {
            const auto written = ::write(descriptor_, bytes.data(), std::min(bytes.size(), write_bytes_max));
            if (written < 0 && errno == EINTR)
                continue;
            if (written <= 0)
                failed_ = written < 0 ? errno : EIO;
            else
                bytes = bytes.subspan(static_cast<std::size_t>(written));
        }
    }

    result<void> publish() {
        const auto digest = hash_.digest();
        put(std::span(&digest, 1));
        if (!failed_ && (::fsync(descriptor_) != 0 || ::rename(path_.c_str(), target_.c_str()) != 0))
            failed_ = errno;
        if (failed_)
            return fail(errc::io_error, target_.string() + " cannot be written: " + std::strerror(failed_));
        ::close(std::exchange(descriptor_, -1));
        return {};
    }

private:
    std::filesystem::path target_, path_;
    route_format::hash hash_;
    int descriptor_ = -1, failed_ = 0;
};

result<void> check_sequence(const route_trace& trace, std::size_t index, std::vector<std::uint32_t>& seen) {
    const auto& sequence = trace.sequences[index];
    const auto refuse = [index](const std::string& why) {
        return fail(errc::invalid_argument, "sequence " + std::to_string(index) + " of a recording " + why);
    };
    const auto visits = std::uint64_t{sequence.tokens} * trace.layers;
    if (sequence.tokens == 0 || sequence.prompt_tokens > sequence.tokens)
        return refuse("has " + std::to_string(sequence.prompt_tokens) + " prompt tokens of " +
                      std::to_string(sequence.tokens));
    if (sequence.ids.size() != visits * trace.top_k || sequence.weights.size() != sequence.ids.size() ||
        sequence.hidden.size() != visits * trace.hidden)
        return refuse("does not have as many ids, weights and states as its " + std::to_string(sequence.tokens) +
                      " tokens need");
    if (route_format::find_bad_ids(trace, sequence.ids, seen))
        return refuse("names an expert twice for one token or one that does not exist");
    if (!std::all_of(sequence.weights.begin(), sequence.weights.end(),
                     [](float weight) { return std::fabs(weight) <= f16_max; }))
        return refuse("has a gate weight that float16 cannot hold");
    return {};
}

result<void> check(const route_trace& trace) {
    if (auto sizes = route_format::check_sizes(trace); !sizes)
        return fail(errc::invalid_argument, "a recording of " + sizes.error());
    if (trace.layer_numbers.size() != trace.layers || !route_format::ascending(trace.layer_numbers))
        return fail(errc::invalid_argument, "the layer numbers of a recording must be one per layer and ascend");
    std::vector<std::uint32_t> seen(trace.experts);
    for (std::size_t index = 0; index < trace.sequences.size(); ++index)
        if (auto done = check_sequence(trace, index, seen); !done)
            return done;
    return {};
}

} // namespace

result<void> write_route_trace(const route_trace& trace, const std::filesystem::path& path) {
    if (auto done = check(trace); !done)
        return done;
    hashed_file file(path);
    file.put(std::span(route_format::magic_2.data(), route_format::magic_2.size()));
    const std::array<std::uint32_t, route_format::header_fields> fields{
        trace.layers, trace.experts, trace.top_k, trace.hidden, static_cast<std::uint32_t>(trace.sequences.size()), 0};
    file.put(std::span<const std::uint32_t>(fields));
    file.put(std::span<const std::uint16_t>(trace.layer_numbers));
    std::vector<std::uint16_t> narrow;
    for (const auto& sequence : trace.sequences) {
        const std::array<std::uint32_t, 2> counts{sequence.tokens, sequence.prompt_tokens};
        file.put(std::span<const std::uint32_t>(counts));
        file.put(std::span<const std::uint16_t>(sequence.ids));
        narrow.resize(sequence.weights.size());
        std::transform(sequence.weights.begin(), sequence.weights.end(), narrow.begin(), f32_to_f16);
        file.put(std::span<const std::uint16_t>(narrow));
        file.put(std::span<const std::uint16_t>(sequence.hidden));
    }
    return file.publish();
}

} // namespace moira
