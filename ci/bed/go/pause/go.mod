module xwiki-stack/bed/pause

go 1.26.0

tool xwiki-stack/bed/pause
