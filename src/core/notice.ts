/**
 * News from a forge after which Penstock looks there itself: what a delivery says of it is only where to look. Kept until
 * it is dealt with, so that whoever deals with it may meet it twice.
 */
export type Notice =
  /** Opened, closed, a new head, a label, another base: whatever it was, how it stands now is asked. */
  | { readonly kind: 'pull_request'; readonly number: number }
  | { readonly kind: 'comment'; readonly pullRequest: number; readonly comment: string }
  | { readonly kind: 'review'; readonly pullRequest: number }
  /** A button beside a check; `identity` is the check's, as we gave it. `by` is the login that the forge signed for. */
  | { readonly kind: 'rerun'; readonly commit: string; readonly identity?: string; readonly by: string }
  /** A merge queue wants a commit judged that it made itself: the commit, its ref, the branch it would go to. */
  | { readonly kind: 'merge_group'; readonly commit: string; readonly ref: string; readonly base: string }
  /** A branch has moved, or is gone. */
  | { readonly kind: 'branch'; readonly ref: string }
