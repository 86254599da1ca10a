/* The browsable API sends its raw data, PUT and PATCH by jQuery: give these requests the key of the page. */
(function ($) {
  var page = JSON.parse(document.getElementById("idempotency").textContent);
  $.ajaxPrefilter(function (options, original, request) {
    if (!options.crossDomain && page.methods.indexOf(options.type.toUpperCase()) !== -1) {
      request.setRequestHeader(page.header, page.key);
    }
  });
})(jQuery);
