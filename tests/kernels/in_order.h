// Asynchronous work of a thread that ends in the order of its beginning, at any time until it is waited for: copies
// (cp.async) and matrix products (wgmma), in groups.

#pragma once
#include <algorithm>
#include <cstddef>
#include <deque>

namespace sim {

// Item::end() does the work.
template <class Item> class InOrder {
public:
    void begin(const Item& item) { items.push_back({item, groups}); }
    void commit() { groups++; }

    bool empty() const { return items.empty(); }
    size_t begun() const { return ended + items.size(); }
    // True if a group has not been waited for.
    bool left() const { return !items.empty() || waited_for < groups; }

    void end_one() {
        const Item item = items.front().item;
        items.pop_front();
        ended++;
        item.end();
    }
    // Until the first `count` have ended.
    void end_first(size_t count) {
        while (ended < count && !items.empty()) end_one();
    }
    // Until at most `pending` of the latest groups have not ended.
    void wait(size_t pending) {
        waited_for = std::max(waited_for, groups - std::min(groups, pending));
        while (!items.empty() && items.front().group < waited_for) end_one();
    }

private:
    struct Begun {
        Item item;
        size_t group;
    };
    std::deque<Begun> items;
    size_t groups = 0, waited_for = 0, ended = 0;
};

}  // namespace sim
