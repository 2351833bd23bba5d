// Douyin's global. Its own typings declare it together with a console and timers of theirs.
declare const tt: typeof import('@douyin-microapp/typings/types/api');
