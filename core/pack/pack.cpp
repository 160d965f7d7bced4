#include "core/pack/pack.hpp"

#include "core/base/read_only_file.hpp"
#include "core/model/content_hash.hpp"
#include "core/pack/coactivation_order.hpp"
#include "core/pack/pack_journal.hpp"
#include "core/pack/pack_place.hpp"
#include "core/pack/packed_texts.hpp"
#include "core/pack/unit_team.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace moira {

namespace {

namespace fs = std::filesystem;

/// Index and config.json beside weights and copied files: about 120 bytes per tensor.
constexpr std::uint64_t index_bytes_per_tensor = 160;
constexpr std::uint64_t config_bytes_max = 4'000'000; // as checkpoints are read with

class packing {
public:
    packing(const pack_request& request, checkpoint source, pack_plan plan, pack_place place, pack_journal journal)
        : request_(request), source_(std::move(source)), plan_(std::move(plan)), place_(std::move(place)),
          journal_(std::move(journal)), hashes_(plan_.shards.size()) {
        for (std::size_t shard = 0; shard < plan_.shards.size(); ++shard)
            hashes_[shard].resize(plan_.shards[shard].units.size());
    }

    result<pack_report> run();

private:
    result<void> open_shards();
    result<void> require_space();
    std::vector<unit_place> take_records();
    result<void> write_units(std::vector<unit_place> pending);
    result<void> write_headers();
    result<void> write_texts();
    result<void> write_config();
    result<void> copy_side_files();
    result<void> write_text(const fs::path& name, std::string_view text);
    error kept(error why) const;
    pack_report report() const;

    const pack_request& request_;
    checkpoint source_;
    pack_plan plan_;
    pack_place place_;
    pack_journal journal_;
    std::vector<output_file> files_;
    std::vector<bool> fresh_;                        ///< [shards] nothing that the journal says of it holds
    std::vector<std::vector<std::uint64_t>> hashes_; ///< [shards][units]
    std::vector<std::uint64_t> header_hashes_;       ///< [shards]
    double error_max_ = 0;
    std::uint64_t resumed_bytes_ = 0;
};

/// A shard that is missing or has another size than planned was not written by the attempt that the journal tells of.
result<void> packing::open_shards() {
    for (const auto& shard : plan_.shards) {
        std::error_code missing;
        const auto bytes = fs::file_size(place_.part() / shard.file_name, missing);
        fresh_.push_back(missing || bytes != shard.file_bytes());
    }
    if (auto enough = require_space(); !enough)
        return enough;
    for (const auto& shard : plan_.shards) {
        files_.emplace_back(place_.part() / shard.file_name);
        if (const int failure = files_.back().reserve(shard.file_bytes()); failure != 0)
            return fail(errc::io_error, shard.file_name + " cannot be made in " + place_.part().string() + ": " +
                                            std::strerror(failure));
    }
    return {};
}

result<void> packing::require_space() {
    std::uint64_t bytes = plan_.file_bytes + 2 * config_bytes_max;
    for (const auto& shard : plan_.shards)
        bytes += shard.tensors.size() * index_bytes_per_tensor;
    const auto texts = side_files(source_.folder());
    if (!texts)
        return tl::unexpected(texts.error());
    for (const auto& file : *texts) {
        std::error_code unknown; // then it fails where it is copied
        const auto size = fs::file_size(source_.folder() / file, unknown);
        bytes += unknown ? 0 : size;
    }
    return place_.require_space(bytes);
}

/// The units that are still to be done; those of the journal leave their hashes.
std::vector<unit_place> packing::take_records() {
    std::vector<unit_place> places;
    for (std::uint32_t shard = 0; shard < plan_.shards.size(); ++shard)
        for (std::uint32_t unit = 0; unit < plan_.shards[shard].units.size(); ++unit)
            places.push_back({shard, unit, places.size()});
    std::vector<bool> done(places.size());
    for (const auto& record : journal_.records()) {
        const auto& at = places[record.unit];
        if (fresh_[at.shard])
            continue;
        done[record.unit] = true;
        hashes_[at.shard][at.unit] = record.hash;
        error_max_ = std::max(error_max_, record.error_max);
        resumed_bytes_ += plan_.shards[at.shard].units[at.unit].bytes;
    }
    std::erase_if(places, [&](const unit_place& place) { return done[place.number]; });
    return places;
}

result<void> packing::write_units(std::vector<unit_place> pending) {
    unit_team team(source_, plan_, files_, std::move(pending));
    std::uint64_t all = resumed_bytes_;
    for (const auto& place : team.places())
        all += plan_.shards[place.shard].units[place.unit].bytes;
    unit_team::supervision watch;
    watch.threads = request_.threads;
    watch.commit_bytes = request_.commit_bytes;
    watch.interrupted = request_.interrupted;
    if (request_.progress)
        watch.progress = [&](std::uint64_t written) { request_.progress(resumed_bytes_ + written, all); };
    watch.commit = [&](std::span<const finished_unit> units) -> result<void> {
        std::vector<journal_record> records;
        for (const auto& unit : units) {
            hashes_[unit.place.shard][unit.place.unit] = unit.written.hash;
            error_max_ = std::max(error_max_, unit.written.error_max);
            records.push_back({unit.place.number, unit.written.hash, unit.written.error_max});
        }
        return journal_.append(records);
    };
    return team.run(watch);
}

result<void> packing::write_headers() {
    for (std::size_t index = 0; index < plan_.shards.size(); ++index) {
        const auto& shard = plan_.shards[index];
        const auto prefix = packed_prefix(shard, hashes_[index], plan_);
        if (!prefix)
            return tl::unexpected(prefix.error());
        const auto bytes = std::as_bytes(std::span(*prefix));
        header_hashes_.push_back(content_hash(bytes));
        int failure = files_[index].write_at(0, bytes);
        if (failure == 0)
            failure = files_[index].flush();
        if (failure != 0)
            return fail(errc::io_error, shard.file_name + " cannot be written: " + std::strerror(failure));
    }
    return {};
}

result<void> packing::write_text(const fs::path& name, std::string_view text) {
    const int failure = write_small_file(place_.part() / name, std::as_bytes(std::span(text)));
    if (failure != 0)
        return fail(errc::io_error, name.string() + " cannot be written: " + std::strerror(failure));
    return {};
}

result<void> packing::write_config() {
    const auto config = read_text_file(source_.folder() / "config.json", config_bytes_max);
    if (!config)
        return tl::unexpected(config.error());
    const auto told = packed_config_json(*config, source_, plan_, error_max_);
    if (!told)
        return tl::unexpected(told.error());
    return write_text("config.json", *told);
}

result<void> packing::copy_side_files() {
    const auto files = side_files(source_.folder());
    if (!files)
        return tl::unexpected(files.error());
    for (const auto& name : *files) {
        if (name == "config.json")
            continue;
        const auto text = read_text_file(source_.folder() / name, side_file_bytes_max);
        if (!text)
            return tl::unexpected(text.error());
        std::error_code ignored; // then the file in it cannot be written
        if (name.has_parent_path())
            fs::create_directory(place_.part() / name.parent_path(), ignored);
        if (auto written = write_text(name, *text); !written)
            return written;
    }
    return {};
}

result<void> packing::write_texts() {
    if (auto written = write_text("model.safetensors.index.json", packed_index_json(plan_, header_hashes_)); !written)
        return written;
    if (auto written = write_config(); !written)
        return written;
    return copy_side_files();
}

error packing::kept(error why) const {
    why.message += "; " + source_.folder().string() + " is as it was, and what is done is kept in " +
                   place_.part().string() + ": the same command goes on from there";
    return why;
}

pack_report packing::report() const {
    pack_report told;
    for (std::size_t file = 0; file < source_.files().size(); ++file)
        told.bytes_before += source_.file_bytes(static_cast<std::uint32_t>(file));
    told.bytes_after = plan_.file_bytes;
    told.expert_bytes = plan_.expert_bytes;
    told.experts = plan_.experts;
    told.shards = plan_.shards.size();
    told.resumed_bytes = resumed_bytes_;
    told.quantized_from = plan_.quantized_from;
    if (!plan_.quantized_from.empty())
        told.max_relative_error = error_max_;
    if (plan_.forms.layout)
        told.layout = layout_name(*plan_.forms.layout);
    if (request_.experts == packed_precision::fp8 && plan_.quantized_from.empty())
        told.notices.push_back("the experts are FP8 already: nothing was rounded");
    return told;
}

result<pack_report> packing::run() {
    if (place_.published()) { // all that is missing is the removal of the journal
        fresh_.assign(plan_.shards.size(), false);
        if (!take_records().empty())
            return fail(errc::invalid_argument,
                        place_.target().string() + " exists and is not empty: name another folder");
        return journal_.remove().map([&] { return report(); });
    }
    if (auto created = place_.create(); !created)
        return tl::unexpected(created.error());
    auto done = open_shards();
    if (done)
        done = write_units(take_records());
    if (done)
        done = write_headers();
    if (done)
        done = write_texts();
    if (done)
        done = place_.publish();
    if (done)
        done = journal_.remove();
    if (!done)
        return tl::unexpected(kept(std::move(done.error())));
    return report();
}

} // namespace

result<pack_report> pack_model(const pack_request& request) {
    auto place = pack_place::of(request.source, request.target);
    if (!place)
        return tl::unexpected(place.error());
    if (place->occupied() && !place->published())
        return fail(errc::invalid_argument, place->target().string() + " exists and is not empty: name another folder");
    auto source = checkpoint::open(request.source);
    if (!source)
        return tl::unexpected(source.error());
    pack_wish wish{request.experts, request.shard_bytes_max, {}, request.layout, request.source_plugins};
    if (request.routes) {
        auto orders = coactivation_orders(*request.routes, *source);
        if (!orders)
            return tl::unexpected(orders.error());
        wish.orders = std::move(*orders);
    }
    auto plan = plan_pack(*source, wish);
    if (!plan)
        return tl::unexpected(plan.error());
    if (request.restart)
        if (auto discarded = place->discard(); !discarded)
            return tl::unexpected(discarded.error());
    std::error_code ignored; // then the journal cannot be opened
    fs::create_directories(place->target().parent_path(), ignored);
    auto journal = pack_journal::open(place->journal(), plan_fingerprint(*plan, *source), plan->units);
    if (!journal)
        return tl::unexpected(journal.error());
    return packing(request, std::move(*source), std::move(*plan), std::move(*place), std::move(*journal)).run();
}

} // namespace moira
