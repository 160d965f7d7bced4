#include "core/base/read_only_file.hpp"
#include "core/pack/pack_journal.hpp"
#include "tests/experts/temporary_folder.hpp"

#include <array>
#include <doctest/doctest.h>
#include <fstream>
#include <limits>

using namespace moira;

namespace {

constexpr std::uint64_t fingerprint = 0x0123456789abcdefULL, units = 5;
constexpr std::array records = {journal_record{3, 17, 0}, journal_record{0, UINT64_MAX, 0.03125},
                                journal_record{4, 0, 1}};

std::string whole_text() {
    std::string text = journal_head(fingerprint);
    for (const auto& record : records)
        text += journal_line(record);
    return text;
}

} // namespace

TEST_CASE("a journal tells what was written") {
    const auto content = parse_journal(whole_text(), units, "test");
    REQUIRE(content);
    CHECK(content->fingerprint == fingerprint);
    CHECK(content->bytes == whole_text().size());
    CHECK(std::equal(content->records.begin(), content->records.end(), records.begin(), records.end()));
}

TEST_CASE("a journal that was cut anywhere holds its whole lines") {
    const auto text = whole_text();
    const auto head_bytes = journal_head(fingerprint).size();
    for (std::size_t bytes = 0; bytes < text.size(); ++bytes) {
        CAPTURE(bytes);
        const auto content = parse_journal(std::string_view(text).substr(0, bytes), units, "test");
        REQUIRE(content.has_value() == (bytes >= head_bytes));
        if (!content) {
            CHECK(content.error().code == errc::corrupt_file);
            continue;
        }
        CHECK(content->bytes <= bytes);
        CHECK(content->records.size() < records.size());
        for (std::size_t index = 0; index < content->records.size(); ++index)
            CHECK(content->records[index] == records[index]);
    }
}

TEST_CASE("no changed byte of a journal makes a record that was not written") {
    const auto text = whole_text();
    for (std::size_t at = 0; at < text.size(); ++at)
        for (const int bit : {0, 3, 6}) {
            auto damaged = text;
            damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
            const auto content = parse_journal(damaged, units, "test");
            if (!content)
                continue;
            CHECK(content->fingerprint == fingerprint);
            CHECK(content->records.size() < records.size());
            for (std::size_t index = 0; index < content->records.size(); ++index)
                CHECK(content->records[index] == records[index]);
        }
}

TEST_CASE("records of units that are not planned, that come twice or whose error is no number end a journal") {
    for (const journal_record bad :
         {journal_record{units, 1, 0}, journal_record{3, 1, 0}, journal_record{1, 1, -1}, journal_record{1, 1, 1.5},
          journal_record{1, 1, std::numeric_limits<double>::quiet_NaN()}}) {
        const auto content = parse_journal(whole_text() + journal_line(bad) + journal_line({2, 2, 0}), units, "test");
        REQUIRE(content);
        CHECK(content->records.size() == records.size());
    }
}

TEST_CASE("a journal goes on where the last process stopped") {
    const temporary_folder folder;
    const auto path = folder.path() / "journal";
    {
        auto journal = pack_journal::open(path, fingerprint, units);
        REQUIRE_MESSAGE(journal, journal.error().message);
        CHECK(journal->records().empty());
        REQUIRE(journal->append(std::span(records).first(1)));
        REQUIRE(journal->append(std::span(records).subspan(1)));
        const auto second = pack_journal::open(path, fingerprint, units);
        REQUIRE_FALSE(second);
        CHECK(second.error().code == errc::invalid_argument); // in use
    }
    const auto other = pack_journal::open(path, fingerprint + 1, units);
    REQUIRE_FALSE(other);
    CHECK(other.error().code == errc::invalid_argument);
    std::ofstream(path, std::ios::app) << "2 00"; // cut
    {
        auto journal = pack_journal::open(path, fingerprint, units);
        REQUIRE(journal);
        CHECK(journal->records().size() == records.size());
        const journal_record last{2, 5, 0};
        REQUIRE(journal->append({&last, 1}));
    }
    auto journal = pack_journal::open(path, fingerprint, units);
    REQUIRE(journal);
    CHECK(journal->records().size() == records.size() + 1);
    REQUIRE(journal->remove());
    CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("a journal whose head was cut begins anew, and another file is left alone") {
    const temporary_folder folder;
    const auto path = folder.path() / "journal";
    std::ofstream(path) << journal_head(fingerprint).substr(0, 20);
    {
        const auto journal = pack_journal::open(path, fingerprint, units);
        REQUIRE(journal);
        CHECK(journal->records().empty());
    }
    CHECK(*read_text_file(path, 1000) == journal_head(fingerprint));
    std::ofstream(path) << "dear diary,\nnothing happened today\n";
    const auto refused = pack_journal::open(path, fingerprint, units);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::corrupt_file);
    CHECK(read_text_file(path, 1000)->starts_with("dear diary"));
}
